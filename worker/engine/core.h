#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "kvstore/handoff/handoff.h"
#include "kvstore/pool/block_pool.h"
#include "kvstore/prefix/prefix_cache.h"
#include "worker/engine/batch.h"
#include "worker/engine/engine_metrics.h"
#include "worker/engine/guide_pool.h"
#include "worker/engine/output.h"
#include "worker/engine/rate.h"
#include "worker/engine/request.h"
#include "worker/engine/scheduler.h"
#include "worker/engine/sequence.h"
#include "worker/model/model.h"
#include "worker/sampler/adjust.h"
#include "worker/sampler/sampler.h"

namespace tandem {

struct EngineOptions {
  uint32_t max_sequences = 64;      // that hold blocks at once; 1 to 4096
  uint32_t max_queue = 1024;        // that wait for blocks
  uint32_t max_batch_tokens = 512;  // rows of a step: >= max_sequences + block_tokens
  uint32_t lookahead_tokens = 256;  // of the output that get their blocks at admission; >= 1
  // A request stands in line as one that arrived so much earlier for each level of its priority.
  absl::Duration priority_step = absl::Seconds(1);
  absl::Duration queue_timeout = absl::Seconds(30);      // longest wait for blocks
  absl::Duration step_target = absl::Milliseconds(250);  // prompts are cut to keep steps this short
  absl::Duration handoff_timeout = absl::Seconds(120);   // from the prompt's end to the handoff's
  bool prefix_cache = true;  // keep the KV of what was computed for requests that begin alike
  // Secret of the tenant whose requests these are: nobody can make keys without it.
  std::string tenant_key;
};

class EngineCore;
using EngineMessage = absl::AnyInvocable<void(EngineCore&)>;

// What an engine works with. All must outlive it; `sender` and `receiver` may be null, then the
// roles that need them are refused.
struct EngineParts {
  Model* model = nullptr;
  BlockPool* pool = nullptr;  // of model->kv(); used by nobody else
  HandoffSender* sender = nullptr;
  HandoffReceiver* receiver = nullptr;
  const Clock* clock = nullptr;
  const EngineMetrics* metrics = nullptr;  // null: nothing is counted
  GuidePool* guides = nullptr;             // null: guided requests are refused
};

// All sequences of one worker and what happens to them: admission, steps, sampling, handoffs, ends.
// docs/ENGINE.md is normative for its rules.
//   life    a request: Submit -> OnRefused, or OnAccepted .. one end (worker/engine/output.h)
//   errors  of one request go to its session; a failed step ends the sequences that were in it
//   threads one (Engine's, or a test's): sinks are called on it, from Step and Submit only.
//           Handoffs end on other threads; these only `post`
class EngineCore {
 public:
  // `post` may be called by any thread, and makes the message run on the engine's thread.
  static absl::StatusOr<std::unique_ptr<EngineCore>> Create(
      const EngineOptions& options, const EngineParts& parts,
      std::function<void(EngineMessage)> post);

  void OpenSession(SessionId session, std::shared_ptr<StepSink> sink);
  // Cancels all its sequences; the sink hears nothing more.
  void CloseSession(SessionId session);

  void Submit(SessionId session, EngineRequest request);
  // An unknown handle is one that has just ended: these are then ignored.
  void Cancel(SessionId session, uint64_t handle);
  // Ends one output; the others go on. One that has no sequence yet ends when it gets it.
  void CancelOutput(SessionId session, uint64_t handle, uint32_t output);
  void SetPaused(SessionId session, uint64_t handle, bool paused);
  // What can't be done ends the request with an error: the other decode worker would wait for it.
  void Reassign(SessionId session, uint64_t handle, uint32_t attempt, std::string peer);
  // Refuses new requests from now on.
  void Drain() { draining_ = true; }

  // One round: ends what has expired, admits, runs one batch and tells the sessions. Returns
  // whether a batch ran; if not, nothing will change until a message or a deadline comes.
  bool Step();

  EngineLoad load() const;
  uint64_t step_number() const { return step_number_; }
  // Tells every session that is open.
  void SendLoad(const EngineLoad& load);

 private:
  using Key = std::pair<SessionId, uint64_t>;
  using Forks = std::vector<std::unique_ptr<Sequence>>;
  using Outputs = absl::InlinedVector<Sequence*, 1>;
  struct Session {
    std::shared_ptr<StepSink> sink;
    StepOutput output;  // of this round
  };
  struct Run {  // one sequence's part of a batch
    Sequence* sequence = nullptr;
    uint32_t rows = 0;
    uint32_t first_logits = 0;  // row of the model's answer
    BatchBuilder::Logits logits = BatchBuilder::Logits::kNone;
  };
  class LayerRelay;

  EngineCore(const EngineOptions& options, const EngineParts& parts,
             std::function<void(EngineMessage)> post);

  absl::Status CheckSubmit(SessionId session, const EngineRequest& request) const;
  // Whether the queue has a place for another request of this session.
  absl::Status CheckPlace(SessionId session) const;
  // Whether it could run if it were alone.
  absl::Status CheckSize(const EngineRequest& request) const;
  uint32_t HeldSequences() const;       // counting the outputs that are still to be made
  void BeginGuide(Sequence& sequence);  // a waiting one, which stays there until OnGuide
  void OnGuide(uint64_t id, const absl::Status& compiled);
  static Key KeyOf(const Sequence& sequence) {
    return {sequence.session(), sequence.request().handle};
  }
  Outputs Find(SessionId session, uint64_t handle) const;
  Sequence* FindHeld(uint64_t id);
  // AlreadyExists when another sequence sends or receives under this name, or may still be touched
  // by it.
  absl::Status CheckName(Role role, const HandoffKey& key) const;
  absl::Status CheckReassign(const EngineRequest& request, uint32_t attempt) const;

  // core_step.cc: one round.
  void ExpireWaiting(absl::Time now);
  absl::Status ExpiryOf(const Sequence& waiting, absl::Time now) const;
  bool LimitPassed(const Sequence& sequence, absl::Time now) const;
  void ExpireHeld(absl::Time now);
  ScheduleEntry EntryOf(const Sequence& sequence) const;
  Plan MakeNextPlan();
  uint32_t BudgetTokens() const;
  void Admit(uint32_t count);
  void RunBatch();
  void TakeRows(const Run& run, absl::Span<const float> logits);
  void GatherPromptLogprobs(const Run& run, uint32_t from, absl::Span<const float> logits);
  void TakeToken(Sequence& sequence, absl::Span<const float> row);
  // Draws, appends and reports the next token. A value when it ends the output.
  absl::StatusOr<std::optional<SequenceFinish>> Produce(Sequence& sequence,
                                                        absl::Span<const float> row);
  // Tells the sequence's grammar, if it has one, of its next token.
  absl::StatusOr<bool> SentenceOver(Sequence& sequence, int32_t token);
  absl::StatusOr<int32_t> Draw(Sequence& sequence, absl::Span<const float> row);
  void Sweep();
  void Flush();

  // core_line.cc: the line of those that wait, and the way back into it.
  bool Wanted(const Sequence& sequence) const;
  bool InLine(const Sequence& sequence) const;
  void Enqueue(std::unique_ptr<Sequence> sequence);
  void LookAtLine();
  void LookForBlocks();
  uint32_t WantedByTheFirst(Sequence& held) const;
  void Preempt(const Plan& plan);

  // core_blocks.cc: blocks and the prefix cache.
  uint32_t BlocksAtAdmission(const Sequence& sequence) const;
  std::vector<BlockId> GivenBlocks(const Sequence& sequence) const;
  uint32_t BlocksOfForks(const Sequence& sequence, uint32_t blocks) const;
  void AcquireBlocks(absl::Span<BlockId> out);
  void TakeForkBlocks(Sequence& sequence);
  uint32_t ReusableBlocks(const Sequence& sequence) const;
  PrefixCache::Match FindPrefix(Sequence& sequence) const;
  void TakePrefix(Sequence& sequence);
  void TakeNewBlocks(Sequence& sequence, uint32_t blocks);
  void GrowBlocks(Sequence& sequence, uint32_t rows);
  void PublishBlocks(Sequence& sequence);
  void ReturnBlocks(Sequence& sequence);

  // core_fork.cc: the outputs of one request.
  absl::StatusOr<Forks> MakeForks(const Sequence& first) const;
  void ShareBlocks(Sequence& first, uint32_t own, Sequence& fork);
  std::vector<Sequence*> Adopt(Sequence& first, Forks forks);
  void ForkAndTake(Sequence& first, absl::Span<const float> row);
  void TakeFirstTokens(Sequence& first, absl::Span<const float> row);
  absl::Status CheckFirstTokens(const EngineRequest& request,
                                absl::Span<const FirstToken> tokens) const;
  absl::StatusOr<bool> CheckReceived(Sequence& output, const FirstToken& first);
  absl::Status TakeReceived(Sequence& sequence, const HandoffReceived& received);

  // core_end.cc: reports, ends and handoffs.
  SequenceOutput& Report(const Sequence& sequence, uint32_t output_index);
  void ReportToken(Sequence& sequence, int32_t token, std::optional<PositionLogprobs> logprobs,
                   std::optional<SequenceFinish> finish);
  void TellFinish(const Sequence& sequence, FinishReason reason);
  void EndCancelled(Sequence& sequence);
  void EndTimeLimit(Sequence& sequence);
  // Ends the other outputs of its request too.
  void EndWithError(Sequence& sequence, const absl::Status& status);
  void AbandonHandoff(Sequence& sequence, absl::string_view why);
  void Retire(Sequence& sequence, SequenceEnd end);
  void AnnounceHandoff(Sequence& sequence);
  void BeginHandoff(Sequence& sequence);
  void SendComputed(const Sequence& sequence);
  void ExpectHandoff(Sequence& sequence);
  void OnPrefillStarted(uint64_t id);
  void OnSent(uint64_t id, uint32_t attempt, absl::StatusOr<HandoffSent> sent);
  void OnReceived(uint64_t id, absl::StatusOr<HandoffReceived> received);

  const EngineOptions options_;
  const EngineParts parts_;
  const ScheduleLimits limits_;
  const uint32_t vocab_;
  const std::function<void(EngineMessage)> post_;
  PrefixCache cache_;

  absl::flat_hash_map<SessionId, Session> sessions_;
  absl::flat_hash_map<Key, Outputs> live_;         // those whose end is not told yet
  std::deque<std::unique_ptr<Sequence>> waiting_;  // in order of their places
  std::vector<std::unique_ptr<Sequence>> held_;    // in order of admission
  uint64_t next_id_ = 1;
  bool draining_ = false;

  uint64_t step_number_ = 0;
  BatchBuilder batch_;
  std::vector<Run> runs_;
  std::vector<ScheduleEntry> held_entries_, waiting_entries_;
  LogitAdjuster adjuster_;
  Sampler sampler_;
  RateMeter prefill_rate_, decode_rate_;
};

}  // namespace tandem
