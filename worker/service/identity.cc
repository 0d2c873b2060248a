#include "worker/service/identity.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/block_hash.h"
#include "worker/service/layout_message.h"

namespace tandem {

std::string KvAbi(const KvLayout& layout) {
  constexpr int kProtocol = 1;  // of kv.v1 and what its frames carry
  return Sha256Hex(absl::StrCat("tandem kv ", kProtocol, "\ndtype ", layout.dtype, "\nlayers ",
                                layout.layers, "\nkv_heads ", layout.kv_heads, "\nhead_dim ",
                                layout.head_dim, "\nversion ", layout.version, "\nweights ",
                                layout.weights_digest, "\ntokenizer ", layout.tokenizer_digest,
                                "\nnumerics ", layout.numerics_class, "\n"));
}

std::string ModelNameOf(const std::string& path) {
  absl::string_view name = path;
  while (name.size() > 1 && absl::ConsumeSuffix(&name, "/")) {
  }
  name = name.substr(name.rfind('/') + 1);
  absl::ConsumeSuffix(&name, ".gguf");
  return name.empty() ? "model" : std::string(name);
}

worker::v1::WorkerInfo MakeWorkerInfo(const ModelSpec& spec, const KvLayout& layout,
                                      const ModelAssets& assets, uint32_t blocks) {
  worker::v1::WorkerInfo info;
  info.set_architecture(spec.architecture);
  *info.mutable_layout() = ToProto(layout);
  info.set_blocks(blocks);
  info.set_vocabulary(static_cast<uint32_t>(spec.vocab));
  info.mutable_eos_token_ids()->Add(spec.eos_ids.begin(), spec.eos_ids.end());
  for (const Asset& asset : assets.assets) {
    worker::v1::Asset* out = info.add_assets();
    out->set_name(asset.name);
    out->set_digest(asset.digest);
    out->set_bytes(asset.data.size());
  }
  info.set_license(assets.license);
  return info;
}

}  // namespace tandem
