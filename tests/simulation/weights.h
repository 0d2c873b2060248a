#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "tests/worker/engine/toy_model.h"
#include "worker/backend/sim/sim_model.h"

namespace tandem {

// The weights of one revision of a model. Each revision answers differently, with either backend.
struct Weights {
  enum class Backend {
    kToy,  // checks each batch and every position of the cache, and takes no time
    kSim,  // the real one: takes time
  };
  std::string revision = "r";  // not empty; names the arithmetic (kv_abi), too
  Backend backend = Backend::kToy;
};

// Of the toy's shape. `wait` is called with the time that a step takes.
struct LoadedWeights {
  std::unique_ptr<Model> model;
  const ToyModel* toy = nullptr;  // the same, if it is one
};
LoadedWeights Load(const Weights& weights, uint32_t blocks, const SimTiming& timing,
                   std::function<void(absl::Duration)> wait);

// What one output of a request must be, computed without an engine.
ToyAnswer ExpectedAnswer(const EngineRequest& request, uint32_t output, const Weights& weights);

}  // namespace tandem
