#pragma once
#include <memory>
#include <utility>
#include <vector>

#include "tests/support/fake_clock.h"
#include "tests/support/random_model.h"
#include "tests/worker/engine/harness.h"
#include "worker/model/decoder.h"

namespace tandem {

// A core over a small random model on the fast CPU backend.
struct RealCore {
  RealCore(int threads, uint32_t max_batch_tokens, uint32_t blocks = 256) {
    backend = *MakeCpuBackend({.threads = threads});
    const RandomModel weights(RandomModel::SmallSpec());
    decoder =
        *Decoder::Load(weights.spec(),
                       [&](absl::string_view name, int layer) { return weights.Find(name, layer); },
                       backend.get(), {.kv_blocks = 256, .max_rows = 256, .max_logit_rows = 64});
    pool = *BlockPool::Create({.blocks = blocks});
    options.max_sequences = 16;
    options.max_batch_tokens = max_batch_tokens;
    Connect(nullptr, nullptr);
  }
  void Connect(HandoffSender* sender, HandoffReceiver* receiver) {
    core = *EngineCore::Create(
        options,
        {.model = decoder.get(),
         .pool = pool.get(),
         .sender = sender,
         .receiver = receiver,
         .clock = &clock,
         .guides = guides},
        [this](EngineMessage message) { posted.push_back(std::move(message)); });
    core->OpenSession(SessionId{1}, sink);
  }
  void Submit(EngineRequest request) {
    sink->Await(request);
    core->Submit(SessionId{1}, std::move(request));
  }
  bool Turn() {
    for (EngineMessage& message : std::exchange(posted, {})) message(*core);
    return core->Step();
  }

  void RunDry() {
    while (Turn() || !posted.empty()) {
    }
  }

  FakeClock clock;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<BlockPool> pool;
  EngineOptions options;
  GuidePool* guides = nullptr;  // taken by Connect
  std::vector<EngineMessage> posted;
  std::unique_ptr<EngineCore> core;
  std::shared_ptr<RecordingSink> sink = std::make_shared<RecordingSink>();
};

}  // namespace tandem
