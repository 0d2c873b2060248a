#include "worker/service/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace tandem {
namespace {

KvLayout Layout() {
  KvLayout layout;
  layout.dtype = "f32";
  layout.layers = 30;
  layout.kv_heads = 3;
  layout.head_dim = 64;
  layout.version = 1;
  layout.weights_digest = "w";
  layout.tokenizer_digest = "t";
  layout.numerics_class = "cpu-1";
  return layout;
}

TEST(Identity, KvAbiChangesWithEachFieldThatMattersAndNoOther) {
  std::set<std::string> seen = {KvAbi(Layout())};
  const auto expect_new = [&seen](auto change) {
    KvLayout layout = Layout();
    change(layout);
    EXPECT_TRUE(seen.insert(KvAbi(layout)).second);
  };
  expect_new([](KvLayout& l) { l.dtype = "f16"; });
  expect_new([](KvLayout& l) { l.layers = 31; });
  expect_new([](KvLayout& l) { l.kv_heads = 4; });
  expect_new([](KvLayout& l) { l.head_dim = 32; });
  expect_new([](KvLayout& l) { l.version = 2; });
  expect_new([](KvLayout& l) { l.weights_digest = "x"; });
  expect_new([](KvLayout& l) { l.tokenizer_digest = "x"; });
  expect_new([](KvLayout& l) { l.numerics_class = "cpu-2"; });
  KvLayout same = Layout();
  same.block_tokens = 32;
  same.tensor_parallel = 2;
  same.kv_abi = "old";
  EXPECT_EQ(KvAbi(same), KvAbi(Layout())) << "these are compared apart";
}

TEST(Identity, AModelIsNamedForItsFileOrFolder) {
  EXPECT_EQ(ModelNameOf("/models/SmolLM2-135M-Instruct.Q4_1.gguf"), "SmolLM2-135M-Instruct.Q4_1");
  EXPECT_EQ(ModelNameOf("/models/llama-8b/"), "llama-8b");
  EXPECT_EQ(ModelNameOf("llama-8b"), "llama-8b");
  EXPECT_EQ(ModelNameOf("/"), "model");
}

}  // namespace
}  // namespace tandem
