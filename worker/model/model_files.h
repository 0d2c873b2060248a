#pragma once
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/model/assets.h"
#include "worker/model/mapped_file.h"
#include "worker/model/spec.h"
#include "worker/model/weight_table.h"
#include "worker/model/weight_view.h"
#include "worker/model/weights_digest.h"

namespace tandem {

// A model on disk, opened and wholly checked: a Hugging Face folder (config.json, safetensors,
// tokenizer.json) or a GGUF file. What it costs is the header and the small files; weights are
// mapped, not read.
//   life    the views of weights are valid while this is
//   errors  of Open: NotFound for a path or a needed file that is not there; Unimplemented for an
//           architecture, type or scaling that this build lacks, with what it has; InvalidArgument
//           for everything else that is wrong with the files. Each begins with the file's path.
//   threads all const methods may run at once
class ModelFiles {
 public:
  static absl::StatusOr<std::unique_ptr<ModelFiles>> Open(const std::string& path);

  const ModelSpec& spec() const { return spec_; }
  const ModelAssets& assets() const { return assets_; }
  ModelFormat format() const { return format_; }
  const std::string& path() const { return path_; }
  // The names are those of families.cc: "embed", "attn_norm", "q", ..., "lm_head".
  absl::StatusOr<WeightView> Weight(absl::string_view name, int layer = kNoLayer) const {
    return weights_.Find(name, layer);
  }
  const std::vector<NamedWeight>& weights() const { return weights_.all(); }
  // Hex SHA-256 of the spec and the weights; read from CacheFolder()/digests where it is known.
  // The first call on a model reads all of its bytes.
  std::string WeightsDigest() const;
  std::string WeightsDigest(const WeightsDigestOptions& options) const;

 private:
  ModelFiles() = default;
  absl::Status OpenFolder();
  absl::Status OpenGguf();

  std::string path_;
  ModelFormat format_ = ModelFormat::kSafetensors;
  ModelSpec spec_;
  ModelAssets assets_;
  TensorSet tensors_;
  WeightTable weights_;
};

}  // namespace tandem
