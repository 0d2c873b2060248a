#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "kvstore/handoff/sender.h"
#include "kvstore/transport/wire.h"

// The threads that each peer of a Sender has: one makes the link, pushes frames and mourns the
// link; while a link of several connections is up, others push over it too.
namespace tandem {
namespace {

using S = SenderState;
using E = SenderEvent;

}  // namespace

void Sender::Run(Peer* peer) {
  Pushers pushers;
  while (true) {
    const Work work = WaitForWork(peer);
    switch (work.kind) {
      case Work::Kind::kStop:
        for (std::thread& pusher : pushers) pusher.join();
        return;
      case Work::Kind::kLink:
        pushers = MakeLink(peer);
        break;
      case Work::Kind::kTearDown:
        TearDown(peer, &pushers);
        break;
      case Work::Kind::kPush:
        PushOne(peer, work.entry);
        break;
    }
  }
}

Sender::Work Sender::WaitForWork(Peer* peer) {
  MutexLock lock(&mu_);
  absl::Time idle_since = RealClock()->Now();
  while (true) {
    if (stopping_) return {Work::Kind::kStop};
    const bool up = peer->link.push != nullptr;
    if (up && peer->broken) return {Work::Kind::kTearDown};
    if (Entry entry = up ? NextToPush(peer) : nullptr) {
      return {Work::Kind::kPush, std::move(entry)};
    }
    const absl::Time now = RealClock()->Now();
    if (!up && peer->handoffs > 0 && now >= peer->next_try) return {Work::Kind::kLink};
    if (peer->handoffs > 0) idle_since = now;  // others may push for it
    const absl::Time idle_end = idle_since + options_.idle;
    if (peer->handoffs == 0 && now >= idle_end) {
      if (up) return {Work::Kind::kTearDown};
      peer->finished = true;
      return {Work::Kind::kStop};
    }
    const bool waits_to_link = !up && peer->handoffs > 0;
    const absl::Duration left = (waits_to_link ? peer->next_try : idle_end) - now;
    peer->changed.WaitFor(&mu_, std::clamp(left, absl::Milliseconds(1), absl::Hours(1)));
  }
}

Sender::Entry Sender::NextToPush(Peer* peer) {
  while (!peer->queue.empty()) {
    Entry entry = std::move(peer->queue.front());
    peer->queue.pop_front();
    entry->queued = false;
    if (entry->state == S::kPushing) return entry;
  }
  return nullptr;
}

void Sender::RunPusher(Peer* peer, const LinkName& link) {
  while (true) {
    Entry entry;
    {
      MutexLock lock(&mu_);
      while (true) {
        if (stopping_ || peer->broken || peer->link.name != link) return;
        entry = NextToPush(peer);
        if (entry != nullptr) break;
        peer->changed.Wait(&mu_);
      }
    }
    PushOne(peer, entry);
  }
}

// Where threads are short a link makes do with those that it got.
Sender::Pushers Sender::StartPushers(Peer* peer, const SenderLink& link) {
  Pushers pushers;
  while (pushers.size() + 1 < link.connections) {
    absl::StatusOr<std::thread> pusher = StartThread(
        "a connection of a KV link", [this, peer, name = link.name] { RunPusher(peer, name); });
    if (!pusher.ok()) {
      LogWarning("a kv link has fewer pushes at once than connections",
                 {{"peer", peer->address}, {"why", pusher.status()}});
      break;
    }
    pushers.push_back(*std::move(pusher));
  }
  return pushers;
}

Sender::Pushers Sender::MakeLink(Peer* peer) {
  const std::string& address = peer->address;
  const ControlEvents events{[this, address](const LinkName& link, const ToSender& message) {
                               OnMessage(address, link, message);
                             },
                             [this, address](const LinkName& link, const absl::Status& why) {
                               OnControlClosed(address, link, why);
                             }};
  absl::StatusOr<SenderLink> link = EstablishLink(address, offer_, door_, transports_, events,
                                                  RealClock()->Now() + options_.link_timeout);
  MutexLock lock(&mu_);
  if (!link.ok()) {
    const absl::Duration pause = options_.backoff_min * (1 << std::min(peer->failures++, 16));
    peer->next_try = RealClock()->Now() + std::min(pause, options_.backoff_max);
    peer->last_error = link.status();
    Log(peer->failures == 1 ? LogLevel::kWarning : LogLevel::kDebug, "kv link failed",
        {{"peer", address}, {"why", link.status()}});
    if (!absl::IsFailedPrecondition(link.status())) return {};
    for (const Entry& entry : EntriesOf(*peer)) Step(entry, E::kLinkRefused, link.status());
    return {};
  }
  LogInfo("kv link up", {{"peer", address},
                         {"epoch", link->name.epoch},
                         {"transport", link->push_transport},
                         {"connections", link->connections}});
  if (!link->passed_over.ok() && !std::exchange(peer->told, true)) {
    LogInfo("kv transport does not reach the peer",
            {{"peer", address}, {"why", link->passed_over}});
  }
  ++counters_.links_made;
  peer->link = *std::move(link);
  peer->broken = peer->closed == peer->link.name;
  peer->failures = 0;
  for (const Entry& entry : EntriesOf(*peer)) Step(entry, E::kLinkUp);
  return StartPushers(peer, peer->link);
}

void Sender::PushOne(Peer* peer, const Entry& entry) {
  SenderLink link;
  FramePlace place;
  const uint64_t slice_bytes = offer_.layout.slice_bytes();
  {
    MutexLock lock(&mu_);
    link = peer->link;
    const uint64_t frame_bytes = std::min(options_.frame_bytes, link.window_bytes);
    const std::optional<FramePlace> next =
        entry->NextFrame(static_cast<uint32_t>(std::max<uint64_t>(1, frame_bytes / slice_bytes)));
    if (link.push == nullptr || entry->state != S::kPushing || !next.has_value()) return;
    place = *next;
    entry->Take(place);
    Advance(entry);  // another thread may push the next frame meanwhile
    entry->first_push = std::min(entry->first_push, RealClock()->Now());
  }
  const absl::Status pushed = PushFrame(link, *entry, place);
  MutexLock lock(&mu_);
  entry->GiveBack(pushed.ok() ? place.blocks * slice_bytes : 0);
  if (pushed.ok()) {
    counters_.bytes += place.blocks * slice_bytes;
    ++counters_.frames;
  }
  if (link.push->broken() && link.name == peer->link.name) {
    BreakLink(*peer, pushed.ok() ? absl::UnavailableError("a connection broke") : pushed);
  }
  if (entry->state == S::kEnded) return ReportIfQuiet(entry);
  if (pushed.ok()) return Advance(entry);
  if (!peer->broken) Step(entry, E::kFault, pushed);
}

absl::Status Sender::PushFrame(const SenderLink& link, const Dispatch& entry,
                               const FramePlace& place) {
  std::vector<absl::Span<const uint8_t>> slices;
  slices.reserve(place.blocks);
  for (uint32_t i = 0; i < place.blocks; ++i) {
    slices.push_back(memory_->Slice(place.layer, entry.blocks[place.first_block + i]));
  }
  FrameHeader header;
  header.tag = {link.name, RequestDigest(entry.key.request_id), entry.key.attempt, entry.generation,
                kv_abi_digest_};
  header.place = place;
  header.payload_bytes = place.blocks * offer_.layout.slice_bytes();
  header.digest = FrameDigest(header, slices);
  return link.push->Push(header, slices,
                         {.stall = options_.push_stall,
                          .deadline = RealClock()->Now() + options_.push_timeout,
                          .cancelled = &entry.cancelled});
}

void Sender::TearDown(Peer* peer, Pushers* pushers) {
  SenderLink link;
  {
    MutexLock lock(&mu_);
    link = std::exchange(peer->link, {});
    peer->broken = false;
    peer->next_try = RealClock()->Now() + options_.backoff_min;
    ++counters_.links_lost;
    const absl::Status why = absl::UnavailableError(
        absl::StrCat("the KV link to ", peer->address, " ended: ", peer->last_error.message()));
    for (const Entry& entry : EntriesOf(*peer)) Step(entry, E::kLinkDown, why);
    peer->changed.NotifyAll();
  }
  LogInfo("kv link down", {{"peer", peer->address}, {"epoch", link.name.epoch}});
  link.push->Break();
  for (std::thread& pusher : *pushers) pusher.join();
  pushers->clear();
  link.control->Close(absl::CancelledError("the link is torn down"));
}

std::vector<Sender::Entry> Sender::EntriesOf(const Peer& peer) {
  std::vector<Entry> entries;
  for (const auto& [key, entry] : entries_) {
    if (entry->peer == peer.address && entry->state != S::kEnded) entries.push_back(entry);
  }
  return entries;
}

}  // namespace tandem
