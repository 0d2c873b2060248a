#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/queue.h"
#include "tests/support/fake_clock.h"
#include "tests/worker/engine/toy_model.h"
#include "worker/engine/core.h"

namespace tandem {

// What was told of one output.
struct HeardOutput {
  std::vector<int32_t> token_ids;
  std::vector<PositionLogprobs> logprobs;
  std::optional<SequenceFinish> finish;
  size_t resumed = 0;         // tokens of it that the request came with
  bool ended_before = false;  // that it came: nothing may be told of it
  bool cut_off() const {
    return finish && (finish->reason == FinishReason::kCancelled ||
                      finish->reason == FinishReason::kTimeLimit);
  }
};

// All bits of a client's view of these.
std::vector<uint32_t> BitsOf(const std::vector<PositionLogprobs>& positions);

// Everything that one request was told; itself its first output. Breaches of the sink's contract go
// to `faults`.
struct Heard : HeardOutput {
  int accepted = 0, refused = 0;
  absl::Status refusal;
  std::vector<PositionLogprobs> prompt_logprobs;
  uint32_t cached_tokens = 0;
  std::vector<HeardOutput> others;  // RecordingSink::Await makes them
  std::optional<HandoffSent> handoff;
  absl::Status error;

  const HeardOutput& output(size_t i) const { return i == 0 ? *this : others.at(i - 1); }
  HeardOutput& output(size_t i) { return i == 0 ? *this : others.at(i - 1); }
  bool over(Role role) const;
};

class RecordingSink final : public StepSink {
 public:
  void OnAccepted(uint64_t handle, uint32_t cached_tokens) override;
  void OnRefused(uint64_t handle, const absl::Status& status) override;
  void OnStep(StepOutput output) override;
  void OnLoad(const EngineLoad& load) override { last_load = load; }
  bool congested() const override { return is_congested; }

  void Await(const EngineRequest& request);  // before it is submitted

  bool is_congested = false;
  EngineLoad last_load;
  std::map<uint64_t, Role> roles;  // of those that are awaited
  std::map<uint64_t, Heard> heard;
  std::vector<std::string> faults;
  int steps = 0;
  std::function<void()> on_step = [] {};

 private:
  void Take(const SequenceOutput& output);
};

// Fits ToyModel's default options.
inline EngineOptions SmallOptions() { return {.max_sequences = 16, .max_batch_tokens = 64}; }

// A core on a toy model and a fake clock, driven by the test.
struct CoreHarness {
  static constexpr SessionId kSession{1};

  explicit CoreHarness(ToyModel::Options model_options = {},
                       EngineOptions options = SmallOptions());
  // Adds the handoff parts; before the first Submit.
  void Connect(HandoffSender* sender, HandoffReceiver* receiver);
  void Submit(EngineRequest request);
  // Runs posted messages, then one step.
  bool Turn();
  // Until no batch runs any more; at most `turns`.
  void RunDry(int turns = 10000);

  FakeClock clock;
  ToyModel model;
  std::unique_ptr<BlockPool> pool;
  EngineOptions options;
  const EngineMetrics* metrics = nullptr;  // taken by Connect
  GuidePool* guides = nullptr;             // the same
  // Shared with threads of `guides`, which may outlive the core.
  std::shared_ptr<BoundedQueue<EngineMessage>> posted =
      std::make_shared<BoundedQueue<EngineMessage>>(4096);
  std::unique_ptr<EngineCore> core;
  std::shared_ptr<RecordingSink> sink = std::make_shared<RecordingSink>();
};

// A request with a prompt of `tokens` tokens, different for each handle.
EngineRequest ToyRequest(uint64_t handle, uint32_t tokens, uint32_t max_tokens);
// The same with several outputs, whose log-probabilities are asked for.
EngineRequest Several(uint64_t handle, uint32_t outputs, uint32_t tokens, uint32_t max_tokens);
// Penalties, bias, allowed ids and min_tokens of one of some mixtures.
void Adjust(EngineRequest& request, uint32_t mixture);

}  // namespace tandem
