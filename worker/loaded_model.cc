#include "worker/loaded_model.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "base/status.h"
#include "worker/backend/sim/sim_model.h"
#include "worker/model/decoder.h"
#include "worker/model/model_files.h"
#include "worker/service/identity.h"

namespace tandem {
namespace {

absl::StatusOr<uint32_t> BlocksFor(const config::v1::KvConfig& kv, const KvLayout& layout) {
  if (kv.blocks() > 0) return kv.blocks();
  const uint64_t block_bytes = uint64_t{layout.slice_bytes()} * layout.layers;
  const uint64_t blocks = kv.memory_bytes() / block_bytes;
  if (blocks == 0) {
    return absl::InvalidArgumentError(absl::StrCat("kv.memory_bytes: ", kv.memory_bytes(),
                                                   " bytes hold no block of this model, which has ",
                                                   block_bytes));
  }
  return static_cast<uint32_t>(std::min<uint64_t>(blocks, 1 << 24));
}

absl::StatusOr<uint32_t> ContextFor(const config::v1::EngineConfig& engine, const ModelSpec& spec) {
  const uint32_t own = static_cast<uint32_t>(spec.max_context);
  if (engine.max_context() == 0) return own;
  if (engine.max_context() <= own) return engine.max_context();
  return absl::InvalidArgumentError(absl::StrCat("engine.max_context: ", engine.max_context(),
                                                 " tokens, but the model was made for ", own));
}

std::string TokenizerDigest(const ModelAssets& assets) {
  const Asset* tokenizer = assets.Find("tokenizer.json");
  return tokenizer == nullptr ? "" : tokenizer->digest;
}

WeightScheme SchemeOf(config::v1::Weights weights) {
  switch (weights) {
    case config::v1::WEIGHTS_INT8:
      return WeightScheme::kInt8;
    case config::v1::WEIGHTS_INT4:
      return WeightScheme::kInt4;
    default:
      return WeightScheme::kStored;
  }
}

Activations ActivationsOf(config::v1::Activations activations) {
  return activations == config::v1::ACTIVATIONS_INT8 ? Activations::kInt8 : Activations::kFloat32;
}

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

// The options of both kinds of models that are the engine's wishes.
template <typename Options>
void SetRows(const config::v1::EngineConfig& engine, uint32_t block_tokens, Options& options) {
  options.max_rows = static_cast<int32_t>(engine.max_batch_tokens());
  options.max_logit_rows = static_cast<int32_t>(engine.max_sequences() + block_tokens);
}

absl::Status LoadWeights(const config::v1::WorkerConfig& config, const ModelFiles& files,
                         LoadedModel& model) {
  ASSIGN_OR_RETURN(model.backend,
                   MakeCpuBackend({.threads = static_cast<int>(config.engine().threads()),
                                   .activations = ActivationsOf(config.model().activations())}));
  const WeightScheme scheme = SchemeOf(config.model().weights());
  KvLayout layout = KvGeometryOf(files.spec(), *model.backend, scheme);
  LogInfo("reading the digest of the weights");
  layout.weights_digest = files.WeightsDigest();
  layout.tokenizer_digest = TokenizerDigest(model.assets);
  Decoder::Options options{.weights = scheme};
  ASSIGN_OR_RETURN(options.kv_blocks, BlocksFor(config.kv(), layout));
  SetRows(config.engine(), layout.block_tokens, options);
  options.kv_abi = KvAbi(layout);
  options.weights_digest = layout.weights_digest;
  options.tokenizer_digest = layout.tokenizer_digest;
  LogInfo("loading the weights", {{"kv_blocks", options.kv_blocks}});
  ASSIGN_OR_RETURN(model.model, Decoder::Load(files, model.backend.get(), options));
  return absl::OkStatus();
}

// As many blocks as the model itself would have, though they are smaller.
absl::Status MakeSim(const config::v1::WorkerConfig& config, const ModelSpec& spec,
                     LoadedModel& model) {
  if (SchemeOf(config.model().weights()) != WeightScheme::kStored) {
    return absl::InvalidArgumentError("model.weights: `backend: sim` has no weights; leave it out");
  }
  if (ActivationsOf(config.model().activations()) != Activations::kFloat32) {
    return absl::InvalidArgumentError(
        "model.activations: `backend: sim` computes nothing; leave it out");
  }
  KvLayout real = SimModel::KvGeometry();
  real.layers = static_cast<uint32_t>(spec.layers);
  real.kv_heads = static_cast<uint32_t>(spec.kv_heads);
  real.head_dim = static_cast<uint32_t>(spec.head_dim);
  KvLayout layout = SimModel::KvGeometry();
  layout.weights_digest = "sim";
  layout.tokenizer_digest = TokenizerDigest(model.assets);
  SimModel::Options options;
  ASSIGN_OR_RETURN(options.kv_blocks, BlocksFor(config.kv(), real));
  SetRows(config.engine(), layout.block_tokens, options);
  options.kv_abi = KvAbi(layout);
  options.weights_digest = layout.weights_digest;
  options.tokenizer_digest = layout.tokenizer_digest;
  options.timing = {ToDuration(config.sim().step()), ToDuration(config.sim().prefill_token()),
                    ToDuration(config.sim().decode_token())};
  options.wait = absl::SleepFor;
  ASSIGN_OR_RETURN(model.model, SimModel::Create(spec, std::move(options)));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LoadedModel> LoadModel(const config::v1::WorkerConfig& config) {
  const absl::Time start = absl::Now();
  LogInfo("opening the model", {{"path", config.model().path()}});
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelFiles> files,
                   ModelFiles::Open(config.model().path()));
  LoadedModel model;
  model.assets = files->assets();
  ASSIGN_OR_RETURN(model.max_context, ContextFor(config.engine(), files->spec()));
  if (config.backend() == config::v1::BACKEND_SIM) {
    RETURN_IF_ERROR(MakeSim(config, files->spec(), model));
  } else {
    RETURN_IF_ERROR(LoadWeights(config, *files, model));
  }
  LogInfo("the model is loaded", {{"seconds", absl::Now() - start}});
  return model;
}

}  // namespace tandem
