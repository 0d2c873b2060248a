#pragma once
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "tandem/config/v1/worker.pb.h"
#include "worker/backend/backend.h"
#include "worker/model/assets.h"
#include "worker/model/model.h"

namespace tandem {

// A model that is ready to run: its weights in a backend (or none, for `backend: sim`), its KV
// cache, and its assets.
struct LoadedModel {
  std::unique_ptr<Backend> backend;  // outlives the model; null for `sim`
  std::unique_ptr<Model> model;
  ModelAssets assets;
  uint32_t max_context = 0;  // tokens: the model's own, or what the configuration cuts it to
};

// Opens, checks and loads the model that the configuration names, and logs how far it is.
//   errors  InvalidArgument that names the option or the file; Unimplemented for a model that this
//           build lacks; ResourceExhausted without memory
absl::StatusOr<LoadedModel> LoadModel(const config::v1::WorkerConfig& config);

}  // namespace tandem
