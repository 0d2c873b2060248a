#include "tests/simulation/sim_worker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/grpc_status.h"
#include "base/status.h"
#include "worker/service/messages.h"

namespace tandem {
namespace {

namespace wv1 = worker::v1;

constexpr absl::Duration kSilence = absl::Seconds(3);
constexpr absl::Duration kIdleStep = absl::Milliseconds(20);

std::vector<Role> RolesOf(WorkerRole role) {
  if (role == WorkerRole::kPrefill) return {Role::kPrefill, Role::kUnified};
  if (role == WorkerRole::kDecode) return {Role::kDecode, Role::kUnified};
  return {Role::kUnified, Role::kPrefill, Role::kDecode};
}

}  // namespace

// The worker's end of one session: what the engine says goes over the network as messages.
class SimWorker::Sink final : public StepSink {
 public:
  Sink(SimWorker* worker, uint64_t epoch) : worker_(worker), epoch_(epoch) {}
  void OnAccepted(uint64_t handle, uint32_t cached_tokens) override {
    Tell(handle, [cached_tokens](LegSink& leg) { leg.OnAccepted(cached_tokens); });
  }
  void OnRefused(uint64_t handle, const absl::Status& status) override {
    const wv1::Refused refused = ToRefused(handle, status);
    worker_->SendToRouter(epoch_, [worker = worker_, refused] {
      const auto found = worker->legs_.find(refused.handle());
      if (found == worker->legs_.end()) return;
      const std::shared_ptr<LegSink> leg = std::move(found->second);
      worker->legs_.erase(found);
      leg->OnRefused(FromRpcStatus(refused.status()));
    });
  }
  void OnStep(StepOutput output) override {
    for (const SequenceOutput& one : output.sequences) {
      Tell(one.handle, [step = ToProto(one)](LegSink& leg) { leg.OnStep(step); });
    }
  }
  void OnLoad(const EngineLoad&) override {}
  bool congested() const override { return false; }

 private:
  void Tell(uint64_t handle, std::function<void(LegSink&)> what) {
    worker_->SendToRouter(epoch_, [worker = worker_, handle, what = std::move(what)] {
      const auto found = worker->legs_.find(handle);
      if (found == worker->legs_.end()) return;
      const std::shared_ptr<LegSink> leg = found->second;
      what(*leg);
    });
  }

  SimWorker* const worker_;
  const uint64_t epoch_;
};

SimWorker::Process::Process(Events* events, SimHandoffs* handoffs, const Options& options,
                            const Weights& weights, LifeId life)
    : number(life),
      revision(weights.revision),
      loaded(Load(weights, options.blocks, options.timing,
                  [this](absl::Duration time) { computing += time; })),
      pool(*BlockPool::Create({.blocks = options.blocks})),
      sender(handoffs->SenderOf(life, loaded.model->kv())),
      receiver(handoffs->ReceiverOf(life, options.address, loaded.model->kv())),
      posted(std::make_shared<BoundedQueue<EngineMessage>>(1 << 16)) {
  core =
      *EngineCore::Create(options.engine,
                          {.model = loaded.model.get(),
                           .pool = pool.get(),
                           .sender = sender.get(),
                           .receiver = receiver.get(),
                           .clock = events->clock(),
                           .guides = options.guides},
                          [posted = posted](EngineMessage message) {
                            TANDEM_CHECK(posted->TryPush(std::move(message)), "too many messages");
                          });
}

SimWorker::SimWorker(Events* events, SimHandoffs* handoffs, Options options)
    : events_(events),
      handoffs_(handoffs),
      options_(std::move(options)),
      limits_(
          {.max_context = 4096, .vocabulary = ToyModel::kVocab, .roles = RolesOf(options_.role)}),
      weights_(options_.weights),
      facts_(std::make_shared<WorkerFacts>()) {
  facts_->address = facts_->handoff_address = options_.address;
  facts_->role = options_.role;
  facts_->model = "toy";
  facts_->revision = facts_->kv_abi = weights_.revision;
  facts_->block_tokens = 16;
  facts_->blocks = options_.blocks;
  facts_->max_context = limits_.max_context;
  facts_->max_sequences = options_.engine.max_sequences;
}

void SimWorker::Start() {
  const LifeId number = options_.number * 1'000'000 + ++lives_;
  process_ = std::make_unique<Process>(events_, handoffs_, options_, weights_, number);
  events_->After(absl::ZeroDuration(), [this, number] { Step(number); });
  Connect();
}

void SimWorker::Kill(absl::Duration away) {
  if (process_ == nullptr) return;
  handoffs_->Died(process_->number);
  faults_ = faults();
  process_ = nullptr;
  Break(absl::UnavailableError("the connection was reset"));
  events_->After(away, [this] { Start(); });
}

void SimWorker::Reset() {
  if (epoch_ != 0) Break(absl::UnavailableError("the connection was reset"));
}

void SimWorker::Stall(absl::Duration length) {
  if (process_ == nullptr) return;
  process_->stands_still_until = events_->clock()->Now() + length;
  if (length < kSilence) return;
  events_->After(kSilence, [this, epoch = epoch_] {
    if (epoch == epoch_ && epoch != 0) Break(absl::UnavailableError("no heartbeat for 3s"));
  });
}

void SimWorker::Swap(Weights other, absl::Duration length) {
  weights_ = std::move(other);
  Kill(events_->Between(absl::Milliseconds(10), absl::Milliseconds(300)));
  events_->After(length, [this] {
    weights_ = options_.weights;
    Kill(events_->Between(absl::Milliseconds(10), absl::Milliseconds(300)));
  });
}

void SimWorker::Drain(absl::Duration patience) {
  if (process_ == nullptr || process_->draining) return;
  process_->draining = true;
  process_->core->Drain();
  events_->After(patience, [this, number = process_->number] {
    if (process_ == nullptr || process_->number != number) return;
    Break(WithReason(absl::UnavailableError("it is stopping"), kDrainingReason));
    Kill(events_->Between(absl::Milliseconds(10), absl::Milliseconds(300)));
  });
}

// What is posted, then a step; steps follow each other at once while there is work.
void SimWorker::Step(LifeId number) {
  if (process_ == nullptr || process_->number != number) return;
  const absl::Time now = events_->clock()->Now();
  absl::Duration next = process_->stands_still_until - now;
  if (next <= absl::ZeroDuration()) {
    for (EngineMessage& message : process_->posted->PopAll(absl::ZeroDuration())) {
      message(*process_->core);
    }
    const bool worked = process_->core->Step();
    next = std::exchange(process_->computing, absl::ZeroDuration());
    if (next == absl::ZeroDuration()) {
      next = worked ? events_->Between(absl::Microseconds(500), absl::Milliseconds(4)) : kIdleStep;
    }
    const EngineLoad load = process_->core->load();
    if (process_->draining && load.waiting == 0 && load.running == 0) {
      return Kill(events_->Between(absl::Milliseconds(10), absl::Milliseconds(300)));
    }
  }
  events_->After(next, [this, number] { Step(number); });
}

void SimWorker::Connect() {
  if (epoch_ != 0) return;
  events_->After(events_->Between(absl::Milliseconds(1), absl::Milliseconds(150)), [this] {
    if (epoch_ != 0 || process_ == nullptr) return;
    epoch_ = ++epochs_;
    process_->core->OpenSession(SessionId{epoch_}, std::make_shared<Sink>(this, epoch_));
    facts_ = std::make_shared<WorkerFacts>(*facts_);
    facts_->state = WorkerState::kReady;
    facts_->incarnation = process_->number;
    facts_->revision = facts_->kv_abi = process_->revision;
  });
}

void SimWorker::Break(const absl::Status& why) {
  if (epoch_ == 0) return;
  const uint64_t broken = std::exchange(epoch_, 0);
  facts_ = std::make_shared<WorkerFacts>(*facts_);
  facts_->state = WorkerState::kLost;
  facts_->detail = std::string(why.message());
  // The router hears of it a moment later, each request on its own.
  for (auto& [handle, leg] : std::exchange(legs_, {})) {
    events_->After(absl::ZeroDuration(), [this, leg = std::move(leg), why] {
      leg->OnLost(Annotate(why, absl::StrCat("worker ", options_.address, " was lost")));
    });
  }
  Deliver(broken, [](EngineCore& core, SessionId session) { core.CloseSession(session); });
  Connect();
}

absl::Time SimWorker::InOrder(absl::Time* last, absl::Duration delay) {
  const absl::Time at = events_->clock()->Now() + delay +
                        events_->Between(absl::Microseconds(20), absl::Milliseconds(3));
  *last = std::max(at, *last + absl::Nanoseconds(1));
  return *last;
}

// A process that stands still takes the message when it moves again, and one that is gone never.
void SimWorker::Deliver(uint64_t epoch, ToEngine message) {
  if (process_ == nullptr) return;
  const absl::Time at = InOrder(&last_to_worker_, absl::ZeroDuration());
  events_->After(at - events_->clock()->Now(),
                 [this, epoch, number = process_->number, message = std::move(message)] {
                   if (process_ == nullptr || process_->number != number) return;
                   const bool taken = process_->posted->TryPush(
                       [epoch, message](EngineCore& core) { message(core, SessionId{epoch}); });
                   TANDEM_CHECK(taken, "too many messages");
                 });
}

void SimWorker::SendToWorker(ToEngine message) {
  if (epoch_ != 0) Deliver(epoch_, std::move(message));
}

void SimWorker::SendToRouter(uint64_t epoch, std::function<void()> message) {
  const absl::Duration computing = process_ ? process_->computing : absl::ZeroDuration();
  const absl::Time at = InOrder(&last_to_router_, computing);
  events_->After(at - events_->clock()->Now(), [this, epoch, message = std::move(message)] {
    if (epoch == epoch_) message();
  });
}

WorkerView SimWorker::View() const { return {facts_, legs_.size()}; }

bool SimWorker::idle() const {
  return process_ != nullptr && legs_.empty() &&
         process_->core->load().blocks_free == process_->pool->blocks();
}

std::vector<std::string> SimWorker::faults() const {
  std::vector<std::string> out = faults_;
  if (process_ == nullptr || process_->loaded.toy == nullptr) return out;
  const std::vector<std::string>& more = process_->loaded.toy->faults;
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

absl::StatusOr<uint64_t> SimWorker::Submit(wv1::Submit submit, uint64_t,
                                           std::shared_ptr<LegSink> sink) {
  if (epoch_ == 0) return absl::UnavailableError(absl::StrCat(options_.address, " is not ready"));
  const uint64_t handle = next_handle_++;
  legs_[handle] = std::move(sink);
  submit.set_handle(handle);
  SendToWorker([this, submit, epoch = epoch_](EngineCore& core, SessionId session) {
    absl::StatusOr<EngineRequest> request = CheckSubmit(submit, limits_, events_->clock()->Now());
    if (request.ok()) {
      core.Submit(session, *std::move(request));
    } else {
      Sink(this, epoch).OnRefused(submit.handle(), request.status());
    }
  });
  return handle;
}

void SimWorker::Leave(uint64_t handle, bool cancel) {
  if (legs_.erase(handle) == 0 || !cancel) return;
  SendToWorker([handle](EngineCore& core, SessionId session) { core.Cancel(session, handle); });
}

void SimWorker::CancelOutput(uint64_t handle, uint32_t output) {
  SendToWorker([handle, output](EngineCore& core, SessionId session) {
    core.CancelOutput(session, handle, output);
  });
}

void SimWorker::Pause(uint64_t handle) {
  SendToWorker(
      [handle](EngineCore& core, SessionId session) { core.SetPaused(session, handle, true); });
}

void SimWorker::Resume(uint64_t handle) {
  SendToWorker(
      [handle](EngineCore& core, SessionId session) { core.SetPaused(session, handle, false); });
}

}  // namespace tandem
