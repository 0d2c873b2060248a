#include "router/store/store_feed.h"

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "base/thread.h"

namespace tandem {

StoreFeed::Source StoreFeed::SourceOf(Store* store) {
  return {[store] { return store->Revision(); },
          [store](int64_t revision, int limit) { return store->ChangesSince(revision, limit); }};
}

absl::StatusOr<std::unique_ptr<StoreFeed>> StoreFeed::Start(Source source, const Clock* clock,
                                                            Options options, Apply apply) {
  std::unique_ptr<StoreFeed> feed(
      new StoreFeed(std::move(source), clock, options, std::move(apply)));
  RETURN_IF_ERROR(feed->CatchUp());
  StoreFeed* const started = feed.get();
  ASSIGN_OR_RETURN(feed->thread_,
                   StartThread("following the store", [started] { started->Run(); }));
  return feed;
}

StoreFeed::~StoreFeed() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    wake_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

absl::Duration StoreFeed::behind() const {
  MutexLock lock(&mu_);
  return clock_->Now() - caught_up_;
}

// All that has changed since, page by page.
absl::Status StoreFeed::CatchUp() {
  const absl::Time asked = clock_->Now();
  ASSIGN_OR_RETURN(const int64_t newest, source_.revision());
  if (newest < revision_) {
    return absl::FailedPreconditionError(
        absl::StrCat("the store is at revision ", newest, ", and was at ", revision_,
                     ": a back-up was restored; start this router anew"));
  }
  for (bool more = newest > revision_; more;) {
    ASSIGN_OR_RETURN(const Changes changes, source_.changes_since(revision_, options_.page));
    apply_(changes);
    revision_ = changes.revision;
    more = changes.more;
  }
  MutexLock lock(&mu_);
  caught_up_ = asked;
  return absl::OkStatus();
}

void StoreFeed::Run() {
  absl::Status last;
  while (true) {
    {
      MutexLock lock(&mu_);
      if (!stopping_) wake_.WaitFor(&mu_, options_.interval);
      if (stopping_) return;
    }
    const absl::Status now = CatchUp();
    if (now != last && !now.ok()) LogWarning("the store does not answer", {{"why", now}});
    if (now.ok() && !last.ok()) LogInfo("the store answers again");
    last = now;
  }
}

}  // namespace tandem
