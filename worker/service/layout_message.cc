#include "worker/service/layout_message.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

constexpr size_t kMaxName = 1024;  // bytes

}  // namespace

kv::v1::KvLayout ToProto(const KvLayout& layout) {
  kv::v1::KvLayout message;
  message.set_kv_abi(layout.kv_abi);
  message.set_dtype(layout.dtype);
  message.set_block_tokens(layout.block_tokens);
  message.set_layers(layout.layers);
  message.set_kv_heads(layout.kv_heads);
  message.set_head_dim(layout.head_dim);
  message.set_version(layout.version);
  message.set_weights_digest(layout.weights_digest);
  message.set_tokenizer_digest(layout.tokenizer_digest);
  message.set_numerics_class(layout.numerics_class);
  message.set_tensor_parallel(layout.tensor_parallel);
  return message;
}

absl::StatusOr<KvLayout> FromProto(const kv::v1::KvLayout& message) {
  const std::pair<absl::string_view, const std::string&> names[] = {
      {"kv_abi", message.kv_abi()},
      {"dtype", message.dtype()},
      {"weights_digest", message.weights_digest()},
      {"tokenizer_digest", message.tokenizer_digest()},
      {"numerics_class", message.numerics_class()},
  };
  for (const auto& [field, value] : names) {
    if (value.size() <= kMaxName) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "kv message: layout.", field, " of ", value.size(), " bytes, the limit is ", kMaxName));
  }
  KvLayout layout;
  layout.kv_abi = message.kv_abi();
  layout.dtype = message.dtype();
  layout.block_tokens = message.block_tokens();
  layout.layers = message.layers();
  layout.kv_heads = message.kv_heads();
  layout.head_dim = message.head_dim();
  layout.version = message.version();
  layout.weights_digest = message.weights_digest();
  layout.tokenizer_digest = message.tokenizer_digest();
  layout.numerics_class = message.numerics_class();
  layout.tensor_parallel = message.tensor_parallel();
  return layout;
}

}  // namespace tandem
