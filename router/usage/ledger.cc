#include "router/usage/ledger.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "base/thread.h"
#include "router/store/store.h"
#include "router/store/validate.h"

namespace tandem {
namespace {

constexpr absl::Duration kLongestRetry = absl::Seconds(1);

absl::string_view ChargeIdOf(const LedgerEvent& event) {
  return std::visit([](const auto& one) -> absl::string_view { return one.charge_id; }, event);
}

// Tried again it would be the same.
bool IsTheEventsFault(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsInternal(status);
}

absl::Status NotWritten(const absl::Status& why) {
  return absl::UnavailableError(
      absl::StrCat("the usage ledger could not be written: ", why.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Ledger>> Ledger::Create(Append append, const Clock* clock,
                                                       Options options) {
  options.batch = std::clamp<size_t>(options.batch, 1, kLedgerBatchMax);
  std::unique_ptr<Ledger> ledger(new Ledger(std::move(append), clock, options));
  Ledger* const started = ledger.get();
  ASSIGN_OR_RETURN(ledger->thread_, StartThread("the usage ledger", [started] { started->Run(); }));
  return ledger;
}

Ledger::~Ledger() { Stop(clock_->Now() + options_.patience); }

void Ledger::Admit(Admission admission, Done done) { Add(std::move(admission), std::move(done)); }

void Ledger::Finish(UsageRow row, Done done) { Add(std::move(row), std::move(done)); }

absl::Status Ledger::CheckPlace(bool row) const {
  if (stopping_) return absl::UnavailableError("the usage ledger is being closed");
  // A row's call was admitted, so there are no more of them than calls that run.
  if (row || queue_.size() < options_.queue) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("the usage ledger is behind: ", queue_.size(), " events wait to be written"));
}

void Ledger::Add(LedgerEvent event, Done done) {
  absl::Status status = ValidateLedgerEvent(event);
  if (!status.ok()) {
    Refused(event, status);
  } else {
    MutexLock lock(&mu_);
    Entry entry{std::move(event), std::move(done), clock_->Now() + options_.patience};
    status = CheckPlace(entry.row());
    if (status.ok()) {
      queue_.push_back(std::move(entry));
      changed_.NotifyAll();
      return;
    }
    done = std::move(entry.done);
  }
  done(status);
}

Ledger::Entries Ledger::NextBatch() {
  MutexLock lock(&mu_);
  while (queue_.empty() && !stopping_) changed_.Wait(&mu_);
  const auto end = queue_.begin() + std::min(queue_.size(), options_.batch);
  Entries batch(std::make_move_iterator(queue_.begin()), std::make_move_iterator(end));
  queue_.erase(queue_.begin(), end);
  return batch;
}

void Ledger::Run() {
  absl::Duration wait = options_.retry;
  absl::Status last;
  for (Entries batch = NextBatch(); !batch.empty(); batch = NextBatch()) {
    const absl::Status written = Write(batch);
    if (written.ok()) {
      wait = options_.retry;
      last = written;
      continue;
    }
    if (written != last) LogWarning("the usage ledger is not written", {{"why", written}});
    last = written;
    Return(std::move(batch), written);
    if (!WaitToRetry(wait)) return GiveUp(written);
    wait = std::min(2 * wait, kLongestRetry);
  }
}

void Ledger::Refused(const LedgerEvent& event, const absl::Status& why) {
  LogError("a usage event is refused", {{"charge", ChargeIdOf(event)}, {"why", why}});
  MutexLock lock(&mu_);
  if (std::holds_alternative<UsageRow>(event)) ++rows_lost_;
}

absl::Status Ledger::Write(Entries& batch) {
  std::vector<LedgerEvent> events;
  for (const Entry& entry : batch) events.push_back(entry.event);
  const absl::StatusOr<LedgerWritten> written = append_(events);
  if (IsTheEventsFault(written.status())) return WriteOneByOne(batch);
  RETURN_IF_ERROR(written.status());
  for (const Entry& entry : batch) {
    if (entry.done) entry.done(absl::OkStatus());
  }
  batch.clear();
  return absl::OkStatus();
}

// One of them spoils the others' transaction.
absl::Status Ledger::WriteOneByOne(Entries& batch) {
  for (; !batch.empty(); batch.pop_front()) {
    const Entry& entry = batch.front();
    const absl::Status written = append_({&entry.event, 1}).status();
    if (!written.ok() && !IsTheEventsFault(written)) return written;
    if (!written.ok()) Refused(entry.event, written);
    if (entry.done) entry.done(written);
  }
  return absl::OkStatus();
}

void Ledger::Return(Entries batch, const absl::Status& why) {
  const absl::Time now = clock_->Now();
  std::vector<Done> tired;
  {
    MutexLock lock(&mu_);
    batch.insert(batch.end(), std::make_move_iterator(queue_.begin()),
                 std::make_move_iterator(queue_.end()));
    queue_.clear();
    for (Entry& entry : batch) {
      const bool waits = now < entry.patience_ends;
      if (!waits && entry.done) tired.push_back(std::exchange(entry.done, nullptr));
      if (waits || entry.row()) queue_.push_back(std::move(entry));
    }
  }
  for (const Done& done : tired) done(NotWritten(why));
}

bool Ledger::WaitToRetry(absl::Duration wait) {
  const absl::Time until = RealClock()->Now() + wait;
  MutexLock lock(&mu_);
  while (RealClock()->Now() < until) {
    if (stopping_ && clock_->Now() >= stop_by_) return false;
    stop_.WaitFor(&mu_, std::max(until - RealClock()->Now(), absl::ZeroDuration()));
  }
  return true;
}

void Ledger::GiveUp(const absl::Status& why) {
  Entries left;
  {
    MutexLock lock(&mu_);
    left.swap(queue_);
    rows_lost_ += std::count_if(left.begin(), left.end(), [](const auto& e) { return e.row(); });
  }
  for (const Entry& entry : left) {
    if (entry.row()) {
      LogError("a usage row is lost", {{"charge", ChargeIdOf(entry.event)}, {"why", why}});
    }
    if (entry.done) entry.done(NotWritten(why));
  }
}

size_t Ledger::Stop(absl::Time deadline) {
  {
    MutexLock lock(&mu_);
    if (!stopping_) stop_by_ = deadline;
    stopping_ = true;
    changed_.NotifyAll();
    stop_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
  MutexLock lock(&mu_);
  return rows_lost_;
}

size_t Ledger::waiting() const {
  MutexLock lock(&mu_);
  return queue_.size();
}

}  // namespace tandem
