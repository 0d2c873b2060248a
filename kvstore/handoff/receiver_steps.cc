#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/log.h"
#include "kvstore/handoff/receiver.h"
#include "kvstore/transport/wire.h"

// How Receiver carries out the steps of its table, and what frames and timers feed into it.
namespace tandem {
namespace {

using S = ReceiverState;
using E = ReceiverEvent;

AbortReason ReasonFor(E event, const absl::Status& why) {
  switch (event) {
    case E::kFrameBad:
      return absl::IsDataLoss(why) ? AbortReason::kCorrupt : AbortReason::kInternal;
    case E::kLeaseEnd:
      return AbortReason::kLeaseExpired;
    case E::kDeadline:
      return AbortReason::kTimeout;
    case E::kCancel:
    case E::kReplaced:
    case E::kLinkDown:
    case E::kPeerAbort:
      return AbortReason::kCancelled;
    default:
      return AbortReason::kInternal;
  }
}

// What the peer is told of a handoff that ended with this event, now or when it asks.
ToSender VerdictOf(const Reception& entry, E event, const ReceiverActions& actions,
                   const absl::Status& why) {
  std::string detail(why.message());
  if (actions.send_completed) return CompletedMessage{entry.key};
  if (event == E::kParkEnd) {
    return RefusedMessage{entry.key, RefuseReason::kUnknownRequest, std::move(detail)};
  }
  const bool full = event == E::kCancel && !entry.expected;
  if (full) return RefusedMessage{entry.key, RefuseReason::kFull, std::move(detail)};
  if (actions.send_refused) {
    return RefusedMessage{entry.key, RefuseReason::kStaleAttempt, std::move(detail)};
  }
  return AbortMessage{entry.key, ReasonFor(event, why), std::move(detail)};
}

// Whether a peer holds, or may hold, a reservation that its lease ends.
bool Leased(S state) {
  return state == S::kFilling || state == S::kFilled || state == S::kCompleting;
}

absl::string_view LateFor(S state) {
  if (Leased(state)) return "the handoff was not over in time";
  return state == S::kExpected ? "the prefill worker never asked to hand over"
                               : "the request never left the decode worker's queue";
}

}  // namespace

void Receiver::Step(const Entry& entry, E event, const absl::Status& why) {
  const S before = entry->state;
  const ReceiverStep step = Next(before, event);
  const absl::Time now = RealClock()->Now();
  entry->state = step.next;
  if (before == S::kParked && step.next != S::kParked) --parked_;
  if (before != S::kParked && step.next == S::kParked) ++parked_;
  if (step.actions.start_park) entry->park_end = now + options_.park;
  if (step.actions.start_lease) entry->lease_end = now + options_.lease;
  if (before != S::kEnded && step.next == S::kEnded) return End(entry, event, step.actions, why);
  if (step.actions.tell_asked) courier_.Post(entry->asked);
  if (step.actions.send_reserved) SendReserved(entry);
  if (step.actions.repeat_verdict) Send(entry->link, entry->verdict);
  if (step.actions.report) ReportIfQuiet(entry);
  if (step.actions.send_abort) {
    Send(entry->link, AbortMessage{entry->key, AbortReason::kLeaseExpired, "nothing is reserved"});
  }
}

void Receiver::SendReserved(const Entry& entry) {
  if (entry->prompt_tokens != entry->reserved_tokens) {
    return Step(entry, E::kFrameBad,
                absl::InternalError(absl::StrCat("the prompt has ", entry->reserved_tokens,
                                                 " tokens at the prefill worker, ",
                                                 entry->prompt_tokens, " here")));
  }
  const bool first = entry->generation == 0;
  if (first) {
    entry->generation = next_generation_++;
    entry->request_digest = RequestDigest(entry->key.request_id);
    entry->Clear(layout_.layers);
    const auto link = links_.find(entry->link.link_id);
    if (link != links_.end()) entry->transport = link->second.transport;
    by_generation_[entry->generation] = entry;
  }
  Send(entry->link,
       ReservedMessage{entry->key, entry->held_blocks,
                       static_cast<uint32_t>(entry->blocks.size()) - entry->held_blocks,
                       entry->generation, options_.lease});
  if (first && entry->Covered()) Step(entry, E::kAllFilled);
}

void Receiver::End(const Entry& entry, E event, const ReceiverActions& actions,
                   const absl::Status& why) {
  by_generation_.erase(entry->generation);
  entry->outcome = actions.send_completed ? absl::OkStatus() : why;
  entry->verdict = VerdictOf(*entry, event, actions, why);
  if (actions.send_completed || actions.send_refused || actions.send_abort) {
    Send(entry->link, entry->verdict);
  }
  if (entry->asked == nullptr) Remember(entry);
  if (actions.report) ReportIfQuiet(entry);
}

void Receiver::Unannounce(const Entry& entry) {
  const bool announced = std::exchange(entry->asked, nullptr) != nullptr;
  if (announced && entry->state == S::kEnded) Remember(entry);
}

void Receiver::Remember(const Entry& entry) {
  const absl::Time now = RealClock()->Now();
  entry->forget_at = now + options_.remember;
  ended_.push_back(entry);
  Forget(now);
}

// The engine may reuse the blocks once it was told: never while a copy into them runs.
void Receiver::ReportIfQuiet(const Entry& entry) {
  if (entry->scattering > 0 || entry->done == nullptr) return;
  absl::StatusOr<HandoffReceived> result =
      HandoffReceived{std::move(entry->complete.first_tokens), entry->bytes, entry->transport};
  if (!entry->outcome.ok()) result = entry->outcome;
  ++(entry->outcome.ok() ? counters_.completed : counters_.failed);
  courier_.Post([done = std::exchange(entry->done, nullptr), result = std::move(result)]() mutable {
    done(std::move(result));
  });
  entry->blocks.clear();
}

void Receiver::Send(const LinkName& link, ToSender message) {
  const auto found = links_.find(link.link_id);
  if (found == links_.end() || found->second.name != link || found->second.control == nullptr) {
    return;
  }
  courier_.Post([control = found->second.control, message = std::move(message)]() mutable {
    control->Send(std::move(message));
  });
}

void Receiver::DropLink(LinkName link, const absl::Status& why) {
  const auto found = links_.find(link.link_id);
  if (found == links_.end() || found->second.name != link) return;
  LogInfo("kv link ended", {{"peer", found->second.peer}, {"epoch", link.epoch}, {"why", why}});
  retiring_[link.link_id] = link;
  courier_.Post([this, link, why, control = std::move(found->second.control)] {
    if (control != nullptr) control->Close(why);
    Retire(link);
    MutexLock lock(&mu_);
    const auto last = retiring_.find(link.link_id);
    if (last != retiring_.end() && last->second == link) retiring_.erase(last);
    retired_.NotifyAll();
  });
  links_.erase(found);
  std::vector<Entry> touched;
  for (const auto& [id, entry] : receptions_) {
    if (entry->link == link && entry->state != S::kEnded) touched.push_back(entry);
  }
  for (const Entry& entry : touched) {
    if (entry->state == S::kExpected) continue;
    Step(entry, E::kLinkDown, why);
    if (entry->state == S::kUnknown) receptions_.erase(entry->key.request_id);
    if (entry->state == S::kAnnounced) entry->link = {};  // the peer may ask again over another
  }
}

void Receiver::OnFrame(const FrameHeader& header, absl::Span<const uint8_t> landed) {
  Entry entry;
  std::vector<BlockId> blocks;
  {
    MutexLock lock(&mu_);
    const auto found = by_generation_.find(header.tag.generation);
    if (found == by_generation_.end()) {
      ++counters_.late_frames;
      return;
    }
    entry = found->second;
    if (header.tag.link != entry->link) {  // nobody may end what came over another's link
      ++counters_.bad_frames;
      return;
    }
    if (absl::Status bad = entry->CheckFrame(header, layout_, kv_abi_digest_); !bad.ok()) {
      ++counters_.bad_frames;
      return Step(entry, E::kFrameBad, bad);
    }
    const auto first = entry->blocks.begin() + header.place.first_block;
    blocks.assign(first, first + header.place.blocks);
    entry->Claim(header.place);
    ++entry->scattering;
  }
  const absl::Status copied = ScatterAndVerify(header, landed, blocks, memory_);
  MutexLock lock(&mu_);
  --entry->scattering;
  if (entry->state == S::kEnded) return ReportIfQuiet(entry);
  if (!copied.ok()) {
    ++counters_.bad_frames;
    return Step(entry, E::kFrameBad, copied);
  }
  entry->Count(header);
  counters_.bytes += header.payload_bytes;
  Step(entry, E::kFrameGood);
  if (!entry->Covered()) return;
  if (entry->state == S::kCompleting) {
    if (absl::Status totals = entry->CheckTotals(); !totals.ok()) {
      return Step(entry, E::kFrameBad, totals);
    }
  }
  Step(entry, E::kAllFilled);
}

void Receiver::Tick() {
  MutexLock lock(&mu_);
  const absl::Time now = RealClock()->Now();
  std::vector<Entry> open;
  for (const auto& [id, entry] : receptions_) {
    if (entry->state != S::kEnded) open.push_back(entry);
  }
  for (const Entry& entry : open) {
    if (entry->state == S::kParked) {
      if (now >= entry->park_end) {
        Step(entry, E::kParkEnd,
             absl::UnavailableError(
                 absl::StrCat("it did not come within ", absl::FormatDuration(options_.park))));
      }
      continue;
    }
    if (now >= entry->deadline) {
      Step(entry, E::kDeadline, absl::DeadlineExceededError(LateFor(entry->state)));
    } else if (Leased(entry->state) && now >= entry->lease_end) {
      ++counters_.leases_expired;
      Step(entry, E::kLeaseEnd, absl::DeadlineExceededError("the sender's lease ended"));
    }
  }
  std::vector<LinkName> unattached;
  for (const auto& [id, link] : links_) {
    if (link.control == nullptr && now >= link.attach_end) unattached.push_back(link.name);
  }
  for (const LinkName& link : unattached) {
    DropLink(link, absl::DeadlineExceededError("the peer never opened the control stream"));
  }
  Forget(now);
}

void Receiver::Forget(absl::Time now) {
  while (!ended_.empty() &&
         (ended_.size() > options_.max_remembered || ended_.front()->forget_at <= now)) {
    const Entry& entry = ended_.front();
    const auto found = receptions_.find(entry->key.request_id);
    if (found != receptions_.end() && found->second == entry) receptions_.erase(found);
    ended_.pop_front();
  }
}

ReceiverCounters Receiver::counters() const {
  MutexLock lock(&mu_);
  ReceiverCounters counters = counters_;
  counters.links = static_cast<uint32_t>(links_.size());
  return counters;
}

}  // namespace tandem
