#include "client/bench/sender.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "client/bench/prompt.h"

namespace tandem::bench {
namespace v1 = inference::v1;
namespace {

constexpr absl::Duration kTick = absl::Seconds(1);  // between two words on the progress

}  // namespace

class Sender::Listener final : public GenerateListener {
 public:
  Listener(Sender* sender, Record* record) : sender_(sender), record_(record) {}

  void OnResponse(const v1::GenerateResponse& response) override {
    uint32_t tokens = 0;
    for (const v1::OutputDelta& output : response.outputs()) tokens += output.token_ids_size();
    record_->Add(tokens, sender_->Elapsed());
    if (response.has_end()) record_->cached_tokens = response.end().usage().cached_tokens();
  }
  void OnEnd(const absl::Status& status) override { sender_->Ended(record_, status); }

 private:
  Sender* const sender_;  // waits for the end
  Record* const record_;
};

Sender::Sender(const Plan* plan, Client* client, Options options)
    : plan_(*plan),
      client_(client),
      options_(std::move(options)),
      records_(plan->size()),
      pacer_(plan, options_.concurrency) {}

v1::GenerateRequest Sender::MakeRequest(size_t index) const {
  const PlannedRequest& planned = plan_[index];
  v1::GenerateRequest request;
  request.set_model(options_.model);
  const std::vector<int32_t> prompt =
      MakePrompt(planned, index, options_.seed, options_.vocabulary);
  *request.mutable_token_ids()->mutable_ids() = {prompt.begin(), prompt.end()};
  request.mutable_sampling()->set_temperature(options_.temperature);
  request.mutable_sampling()->set_seed(options_.seed + index);
  request.mutable_stopping()->set_max_tokens(planned.output_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_response()->set_token_ids(true);
  return request;
}

std::vector<Record> Sender::Go() {
  start_ = clock_->Now();
  for (size_t i = 0; i < plan_.size(); ++i) {
    v1::GenerateRequest request = MakeRequest(i);  // before its time, which it may take a while to
    const absl::optional<absl::Duration> due = AwaitTurn();
    if (!due) break;
    Record& record = records_[i];
    record.state = Record::State::kRunning;
    record.input_tokens = plan_[i].input_tokens;
    record.output_wanted = plan_[i].output_tokens;
    record.due = *due;
    record.sent = Elapsed();
    cancels_.push_back(client_->Begin(std::move(request), options_.timeout,
                                      std::make_unique<Listener>(this, &record)));
  }
  AwaitEnds();
  return std::move(records_);
}

absl::optional<absl::Duration> Sender::AwaitTurn() {
  while (true) {
    {
      MutexLock lock(&mu_);
      if (stopped_) return absl::nullopt;
      const absl::optional<absl::Duration> due = pacer_.due();
      const absl::Duration now = Elapsed();
      if (due && *due <= now) {
        pacer_.Sent();
        return due;
      }
      changed_.WaitFor(&mu_, due ? std::min(*due - now, kTick) : kTick);
    }
    ShowProgress();
  }
}

void Sender::AwaitEnds() {
  bool cancelled = false;
  while (true) {
    bool cancel = false;
    {
      MutexLock lock(&mu_);
      if (ended_ == cancels_.size()) return;
      if (!stopped_ || cancelled) changed_.WaitFor(&mu_, kTick);
      cancel = stopped_ && !cancelled;
    }
    if (cancel) {
      for (const std::function<void()>& give_up : cancels_) give_up();
      cancelled = true;
    }
    ShowProgress();
  }
}

void Sender::Stop() {
  MutexLock lock(&mu_);
  stopped_ = true;
  changed_.NotifyAll();
}

void Sender::Ended(Record* record, const absl::Status& status) {
  record->ended = Elapsed();
  record->status = status;
  MutexLock lock(&mu_);
  const bool given_up = stopped_ && absl::IsCancelled(status);
  record->state = given_up ? Record::State::kGivenUp : Record::State::kEnded;
  if (!status.ok() && !given_up) ++failed_;
  ++ended_;
  pacer_.Ended(record->ended);
  changed_.NotifyAll();
}

void Sender::ShowProgress() {
  const absl::Duration now = Elapsed();
  if (!options_.on_progress || now - shown_ < kTick) return;
  shown_ = now;
  Progress progress = {.at = now, .sent = cancels_.size()};
  {
    MutexLock lock(&mu_);
    progress.ended = ended_;
    progress.failed = failed_;
  }
  options_.on_progress(progress);
}

}  // namespace tandem::bench
