#include "kvstore/handoff/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/memory_blocks.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

TEST(CompareLayouts, NamesTheFieldThatDiffersWithBothValues) {
  const std::vector<std::pair<std::string, std::function<void(KvLayout&)>>> changes = {
      {"dtype: f32 here, f16 at the peer", [](KvLayout& l) { l.dtype = "f16"; }},
      {"block_tokens: 4 here, 8 at the peer", [](KvLayout& l) { l.block_tokens = 8; }},
      {"layers: 3 here, 8 at the peer", [](KvLayout& l) { l.layers = 8; }},
      {"kv_heads: 2 here, 8 at the peer", [](KvLayout& l) { l.kv_heads = 8; }},
      {"head_dim: 8 here, 9 at the peer", [](KvLayout& l) { l.head_dim = 9; }},
      {"version: 1 here, 2 at the peer", [](KvLayout& l) { l.version = 2; }},
      {"weights_digest: w here, x at the peer", [](KvLayout& l) { l.weights_digest = "x"; }},
      {"tokenizer_digest: t here, x at the peer", [](KvLayout& l) { l.tokenizer_digest = "x"; }},
      {"numerics_class: n here, x at the peer", [](KvLayout& l) { l.numerics_class = "x"; }},
      {"tensor_parallel: 1 here, 2 at the peer", [](KvLayout& l) { l.tensor_parallel = 2; }},
      {"kv_abi: abi here, x at the peer", [](KvLayout& l) { l.kv_abi = "x"; }},
  };
  EXPECT_THAT(CompareLayouts(SmallLayout(), SmallLayout()), IsOk());
  for (const auto& [want, change] : changes) {
    KvLayout peer = SmallLayout();
    change(peer);
    EXPECT_THAT(CompareLayouts(SmallLayout(), peer),
                StatusIs(absl::StatusCode::kFailedPrecondition, testing::HasSubstr(want)));
  }
}

}  // namespace
}  // namespace tandem
