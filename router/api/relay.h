#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/metric_list.h"
#include "base/mutex.h"
#include "router/api/failover.h"
#include "router/api/token_line.h"
#include "router/placement/pair_breaker.h"
#include "router/placement/worker_channel.h"
#include "router/prompt/deltas.h"
#include "tandem/inference/v1/inference.pb.h"

namespace tandem {

// Whoever writes a relay's answer to its client. Called without a lock held, by any thread.
class RelayReader {
 public:
  virtual ~RelayReader() = default;
  virtual void OnReady() = 0;  // Take() may have something
  // The client does not read: give the connection up. Only ever called by Relay::Tick.
  virtual void Abandon() = 0;
};

// What counts and measures a request, as its end leaves it.
struct RelayOutcome {
  absl::Status status;
  std::string model;  // empty when the request never got as far
  uint32_t prompt_tokens = 0;
  uint32_t cached_tokens = 0;
  uint32_t completion_tokens = 0;
  inference::v1::FinishReason finish = inference::v1::FINISH_REASON_UNSPECIFIED;
  // Since the request's arrival.
  std::optional<absl::Duration> first_token;  // absent when none came
  absl::Duration total;
};

// One try of a request, as its dispatcher is to make it.
struct RelayAttempt {
  uint32_t number = 1;
  std::vector<worker::v1::ResumedOutput> resume;  // nothing where no token was delivered yet
  // As PlacementCall has them.
  std::string kv_abi;
  std::vector<std::string> avoid, exclude;
  bool whole = false;
  std::vector<WorkerLoss> losses;  // of which Judge wants the fates, before any leg
};

// Sends an attempt to workers that it chooses, by AddLeg. Called without a lock held, by any
// thread, for one attempt after the other.
//   errors  Unavailable when there is no worker for it now
using Dispatcher = std::function<absl::Status(const RelayAttempt&)>;

// The answer of one request on its way from its workers to its client: puts tokens in order, makes
// text of them, ends at a stop string, holds back what the client has not read, and ends everywhere
// at once when anything goes wrong.
// An attempt that its workers do not bring to an end is followed by another one, which goes on
// behind what the client has been sent: it never learns of it but by a pause.
//   life    made at the request's arrival -> Begin (the prompt is ready) -> AddLeg per worker, for
//           each attempt -> ended, by the workers or by Fail. Shared by the legs, the reader and
//           the registry
//   units   the buffer is in bytes of the messages that wait; token indices are of the output
//   order   Take() gives the start with the first delta, deltas in order, and the end once, last
//   threads any. mu_ is never held across a call to a session or to the reader
class Relay final : public std::enable_shared_from_this<Relay> {
 public:
  struct Options {
    std::string request_id;
    const Clock* clock = RealClock();
    // Above this much unread, the decode worker is told to pause; 0: never.
    size_t client_buffer_bytes = 256 << 10;
    // A client that has blocked its answer for so long is given up.
    absl::Duration slow_client_timeout = absl::Seconds(30);
    FailoverOptions failover;
    const RouterMetrics* metrics = nullptr;  // outlives the relay, as does the next
    PairBreaker* pairs = nullptr;            // is told how handoffs go
  };
  // What the answer is made of, known once the prompt is.
  struct Plan {
    inference::v1::ResponseStart start;  // without prompt log-probabilities
    uint32_t max_tokens = 0;             // of each output
    // Since the request's arrival: then the answer ends with what was forwarded.
    absl::Duration time_limit = absl::InfiniteDuration();
    bool want_logprobs = false;
    bool want_prompt_logprobs = false;
    bool send_token_ids = false;
    bool include_stop = false;
  };
  // A worker that is to take part in an attempt.
  struct LegOrder {
    LegKind kind = LegKind::kDecode;
    uint32_t attempt = 1;
    std::string address;  // for the answer's last message
    std::string kv_abi;   // the worker's
    uint64_t incarnation = 0;
    std::shared_ptr<WorkerChannel> session;
    worker::v1::Submit submit;
    uint64_t charge = 0;
  };
  struct Chunk {
    inference::v1::GenerateResponse message;
    bool has_message = false;
    std::optional<absl::Status> end;  // nothing follows
  };

  explicit Relay(Options options);

  void SetReader(std::shared_ptr<RelayReader> reader) ABSL_LOCKS_EXCLUDED(mu_);  // null: none
  // False when the request has ended meanwhile. One Deltas per output. The dispatcher makes every
  // attempt, the first one when Dispatch is called; the relay drops it when it has ended.
  bool Begin(Plan plan, std::vector<Deltas> deltas, Dispatcher dispatcher) ABSL_LOCKS_EXCLUDED(mu_);
  // Makes the current attempt if that is still to be done. While there is no worker for it, Tick
  // tries it again.
  void Dispatch() ABSL_LOCKS_EXCLUDED(mu_);
  // What became of an attempt's losses. OK: it may be made. Otherwise not now, or not at all.
  absl::Status Judge(uint32_t attempt, absl::Span<const Fate> fates) ABSL_LOCKS_EXCLUDED(mu_);
  // Another worker than the decode worker will run this attempt's prompt. Before AddLeg.
  void ExpectPrefill(uint32_t attempt) ABSL_LOCKS_EXCLUDED(mu_);
  // Sends the order's request to its worker. False when the attempt is over, perhaps because this
  // failed: then it needs no further leg.
  bool AddLeg(LegOrder order) ABSL_LOCKS_EXCLUDED(mu_);
  // Ends the request with an error, unless it has ended: the workers are told at once.
  void Fail(absl::Status why) ABSL_LOCKS_EXCLUDED(mu_);

  // What is ready to be written; nothing means wait for OnReady. With `whole`, only the complete
  // answer is.
  std::optional<Chunk> Take(bool whole) ABSL_LOCKS_EXCLUDED(mu_);
  // Looks after time limits, clients that do not read, and requests that wait for a worker.
  void Tick() ABSL_LOCKS_EXCLUDED(mu_);

  bool ended() const ABSL_LOCKS_EXCLUDED(mu_);
  const std::string& request_id() const { return options_.request_id; }
  absl::Time arrival() const { return arrival_; }
  RelayOutcome Outcome() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  class LegEar;  // hears one worker on the relay's behalf
  struct Leg {
    std::shared_ptr<WorkerChannel> session;  // null: no such leg
    std::string address;
    uint64_t incarnation = 0;
    std::optional<uint64_t> handle;  // once Submit has returned
    bool accepted = false;
    bool over = false;      // nothing more comes from it, or is wanted
    bool cancel = false;    // to be cancelled as soon as the handle is known
    bool reported = false;  // it has sent tokens
    uint32_t finishes = 0;  // outputs whose end it told
    uint32_t cached_tokens = 0;
  };
  struct Output {
    TokenLine line;
    Deltas deltas;
    bool ended = false;
    absl::Time last_token = absl::InfiniteFuture();
    uint32_t resumed = 0;  // tokens that were forwarded before this attempt
    // At the decode worker: it is under way; its end was told, or asked for.
    bool decoding = false;
    bool over = false;
  };
  struct Calls;  // to make once mu_ is released

  void OnAccepted(uint32_t attempt, LegKind kind) ABSL_LOCKS_EXCLUDED(mu_);
  void OnStep(uint32_t attempt, LegKind kind, const worker::v1::SequenceStep& step)
      ABSL_LOCKS_EXCLUDED(mu_);
  void OnLegFailed(uint32_t attempt, LegKind kind, LegEnd how, absl::Status why)
      ABSL_LOCKS_EXCLUDED(mu_);

  Leg& leg(LegKind kind) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return legs_[static_cast<size_t>(kind)];
  }
  absl::Status Apply(LegKind kind, const worker::v1::SequenceStep& step)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status TakePromptLogprobs(LegKind kind, const worker::v1::SequenceStep& step)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Forward(uint32_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status ForwardToken(uint32_t index, TokenLine::Token token)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // By a stop string, as its worker said, or else by the time limit.
  absl::Status EndOutput(uint32_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndAtLimit() ABSL_LOCKS_EXCLUDED(mu_);
  // Ends all outputs where they are: the time limit has passed.
  absl::Status CutOff() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  inference::v1::OutputDelta* PendingDelta(uint32_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Notes when tokens of an output came, and how long after the ones before.
  void Timestamp(uint32_t index, Calls* calls) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Outputs that a stop string has ended, and others not, need not be decoded any further.
  void DropOutputs(Calls* calls) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool AllEnded() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Whether the answer can do without anything more from this leg.
  bool CanSpare(LegKind kind) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Whether this failure of the decode worker is only what one of the prefill worker looks like
  // from there. That one reports its own, or is lost: the request ends with that.
  bool PrefillKnowsWhy(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Ends the attempt: another one follows, or the request ends.
  void FailAttempt(const AttemptFailure& failure, Calls* calls) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void NoteFailedAttempt(const AttemptFailure& failure) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  AttemptFailure FailureOf(LegKind kind, LegEnd how, absl::Status why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Who hands over to whom in this attempt.
  WorkerPair PairOf() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return {leg(LegKind::kPrefill).address, leg(LegKind::kDecode).address};
  }
  // Forgets all that belongs to an attempt.
  void ResetAttempt() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  RelayAttempt NextAttempt() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // What follows from a dispatcher's answer; true when there may be more to dispatch.
  bool Dispatched(uint32_t attempt, const absl::Status& placed, Calls* calls)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool Current(uint32_t attempt) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return !end_ && attempt == attempts_.attempt();
  }
  // Ends the request if all of it is here; else ends legs that have nothing left to do.
  void Settle(Calls* calls) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FillEnd() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void End(absl::Status status, Calls* calls) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Leave(LegKind kind, bool cancel, Calls* calls) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Throttle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Tells the decode worker what paused_ says, in order though several threads may call.
  void TellPaused() ABSL_LOCKS_EXCLUDED(mu_);
  void Run(Calls calls) ABSL_LOCKS_EXCLUDED(mu_);

  const Options options_;
  const absl::Time arrival_;

  mutable Mutex mu_;
  std::shared_ptr<RelayReader> reader_ ABSL_GUARDED_BY(mu_);
  Plan plan_ ABSL_GUARDED_BY(mu_);
  std::string model_ ABSL_GUARDED_BY(mu_);
  uint32_t prompt_tokens_ ABSL_GUARDED_BY(mu_) = 0;
  bool split_ ABSL_GUARDED_BY(mu_) = false;           // the prefill leg runs the prompt
  std::vector<Output> outputs_ ABSL_GUARDED_BY(mu_);  // empty before Begin
  std::array<Leg, 2> legs_ ABSL_GUARDED_BY(mu_);      // by LegKind
  inference::v1::GenerateResponse pending_ ABSL_GUARDED_BY(mu_);
  size_t pending_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool start_ready_ ABSL_GUARDED_BY(mu_) = false;  // plan_.start is complete
  bool start_sent_ ABSL_GUARDED_BY(mu_) = false;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;  // a stop string ended an output
  // The decode worker should be paused; what it was told last; someone is telling it now.
  bool paused_ ABSL_GUARDED_BY(mu_) = false;
  bool told_paused_ ABSL_GUARDED_BY(mu_) = false;
  bool telling_ ABSL_GUARDED_BY(mu_) = false;
  // Since when the client has to read before anything can go on.
  std::optional<absl::Time> blocked_since_ ABSL_GUARDED_BY(mu_);
  // The decode worker's, when the prefill worker gave the handoff up and will say why.
  std::optional<AttemptFailure> given_up_ ABSL_GUARDED_BY(mu_);
  AttemptLog attempts_ ABSL_GUARDED_BY(mu_);
  Dispatcher dispatcher_ ABSL_GUARDED_BY(mu_);
  bool to_dispatch_ ABSL_GUARDED_BY(mu_) = false;   // the current attempt was not made yet
  bool dispatching_ ABSL_GUARDED_BY(mu_) = false;   // by some thread, now
  uint32_t unfinished_ ABSL_GUARDED_BY(mu_) = 0;    // outputs that this attempt has to end
  std::string kv_abi_ ABSL_GUARDED_BY(mu_);         // of the workers so far
  absl::Status last_failure_ ABSL_GUARDED_BY(mu_);  // OK: none yet
  // When the current attempt was to be made first.
  absl::Time due_at_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
  std::vector<inference::v1::FailedAttempt> failed_attempts_ ABSL_GUARDED_BY(mu_);
  uint32_t cached_tokens_ ABSL_GUARDED_BY(mu_) =
      0;  // by the attempt that computed the prompt first
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mu_);
  bool end_taken_ ABSL_GUARDED_BY(mu_) = false;
  absl::Time first_token_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  absl::Time limit_at_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  absl::Time ended_at_ ABSL_GUARDED_BY(mu_) = absl::InfiniteFuture();
  uint32_t completion_tokens_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t kv_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  inference::v1::FinishReason reason_ ABSL_GUARDED_BY(mu_) =
      inference::v1::FINISH_REASON_UNSPECIFIED;
};

}  // namespace tandem
