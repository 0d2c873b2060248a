#include "worker/model/model_files.h"

#include <sys/stat.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/model/families.h"
#include "worker/model/gguf.h"
#include "worker/model/gguf_config.h"
#include "worker/model/hf_config.h"
#include "worker/model/safetensors.h"

namespace tandem {
namespace {

constexpr size_t kConfigBytesMax = 16 << 20;

}  // namespace

absl::StatusOr<std::unique_ptr<ModelFiles>> ModelFiles::Open(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) return absl::ErrnoToStatus(errno, path);
  std::unique_ptr<ModelFiles> files(new ModelFiles);
  files->path_ = path;
  if (S_ISDIR(info.st_mode)) {
    RETURN_IF_ERROR(files->OpenFolder());
  } else {
    RETURN_IF_ERROR(Annotate(files->OpenGguf(), path));
  }
  return files;
}

absl::Status ModelFiles::OpenFolder() {
  format_ = ModelFormat::kSafetensors;
  const std::string config_path = path_ + "/config.json";
  absl::StatusOr<std::string> config = ReadFileUpTo(config_path, kConfigBytesMax);
  if (absl::IsNotFound(config.status())) {
    return absl::NotFoundError(
        absl::StrCat(config_path, ": not there; want a Hugging Face model folder or a .gguf file"));
  }
  RETURN_IF_ERROR(config);
  absl::StatusOr<std::string> generation =
      ReadFileUpTo(path_ + "/generation_config.json", kConfigBytesMax);
  if (!generation.ok() && !absl::IsNotFound(generation.status())) return generation.status();
  absl::StatusOr<ModelSpec> spec = ParseHfConfig(*config, generation.value_or(""));
  if (!spec.ok()) return Annotate(spec.status(), config_path);
  spec_ = *std::move(spec);
  ASSIGN_OR_RETURN(const Family* family, FamilyOfHf(spec_.architecture));
  ASSIGN_OR_RETURN(tensors_, OpenSafetensorsFolder(path_));
  absl::StatusOr<WeightTable> weights = WeightTable::Bind(spec_, *family, format_, tensors_);
  if (!weights.ok()) return Annotate(weights.status(), path_);
  weights_ = *std::move(weights);
  ASSIGN_OR_RETURN(assets_, ReadHfAssets(path_, spec_));
  return absl::OkStatus();
}

absl::Status ModelFiles::OpenGguf() {
  format_ = ModelFormat::kGguf;
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path_));
  if (!BeginsAsGguf(file.bytes())) {
    return absl::InvalidArgumentError(
        "neither a GGUF file (it does not begin with \"GGUF\") nor a Hugging Face model folder");
  }
  ASSIGN_OR_RETURN(Gguf gguf, ParseGguf(file.bytes()));
  ASSIGN_OR_RETURN(spec_, ParseGgufConfig(gguf));
  ASSIGN_OR_RETURN(const Family* family, FamilyOfGguf(spec_.architecture));
  ASSIGN_OR_RETURN(assets_, ReadGgufAssets(gguf.metadata, spec_));
  for (TensorInfo& tensor : gguf.tensors) {
    const std::string name = tensor.name;
    tensors_.tensors.emplace(name, std::move(tensor));
  }
  tensors_.files.push_back(std::move(file));
  ASSIGN_OR_RETURN(weights_, WeightTable::Bind(spec_, *family, format_, tensors_));
  return absl::OkStatus();
}

std::string ModelFiles::WeightsDigest() const {
  WeightsDigestOptions options;
  const std::string cache = CacheFolder();
  if (!cache.empty()) options.cache_folder = cache + "/digests";
  return WeightsDigest(options);
}

std::string ModelFiles::WeightsDigest(const WeightsDigestOptions& options) const {
  return DigestOfWeights(spec_, weights_, tensors_.files, options);
}

}  // namespace tandem
