#include "kvstore/handoff/sender.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status.h"
#include "base/thread.h"
#include "kvstore/transport/wire.h"

namespace tandem {
namespace {

using S = SenderState;
using E = SenderEvent;

const HandoffKey& KeyOf(const ToSender& message) {
  return std::visit([](const auto& what) -> const HandoffKey& { return what.key; }, message);
}

AbortReason ReasonFor(E event) {
  switch (event) {
    case E::kAbort:
      return AbortReason::kCancelled;
    case E::kDeadline:
      return AbortReason::kTimeout;
    default:
      return AbortReason::kInternal;
  }
}

}  // namespace

Sender::Sender(BlockMemory* memory, Transports transports, ControlDoor* door,
               const SenderOptions& options)
    : memory_(memory),
      transports_(std::move(transports)),
      door_(door),
      options_(options),
      offer_{.incarnation = options.incarnation,
             .layout = memory->layout(),
             .transports = NamesOf(transports_),
             .connections = MostConnectionsOf(transports_),
             .peer = options.name},
      kv_abi_digest_(ShortDigest(memory->layout().kv_abi)),
      courier_(options.tick, [this] { Tick(); }) {
  courier_.Start();
}

Sender::~Sender() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    std::vector<Entry> open;
    for (const auto& [key, entry] : entries_) open.push_back(entry);
    for (const Entry& entry : open) {
      Step(entry, E::kAbort, absl::CancelledError("the KV sender is shutting down"));
    }
    for (const auto& [address, peer] : peers_) {
      threads.push_back(std::move(peer->thread));
      peer->changed.NotifyAll();
    }
  }
  for (std::thread& thread : threads) thread.join();
  courier_.Stop();
  std::vector<SenderLink> links;  // outlive the lock: their last callbacks may wait for it
  MutexLock lock(&mu_);
  for (const auto& [address, peer] : peers_) links.push_back(std::exchange(peer->link, {}));
}

void Sender::Begin(const HandoffKey& key, const std::string& peer, uint32_t prompt_tokens,
                   std::vector<BlockId> blocks, absl::Time deadline, Done done) {
  const uint32_t prompt_blocks = BlocksFor(prompt_tokens, offer_.layout.block_tokens);
  MutexLock lock(&mu_);
  absl::StatusOr<Peer*> to = absl::CancelledError("the KV sender is shutting down");
  if (prompt_blocks == 0 || prompt_blocks > blocks.size()) {
    to = absl::InternalError(
        absl::StrCat("handoff of ", prompt_tokens, " tokens in ", blocks.size(), " blocks"));
  } else if (entries_.contains(key)) {
    to = absl::InternalError("the same handoff began twice");
  } else if (entries_.size() >= options_.max_handoffs) {
    to = absl::UnavailableError(absl::StrCat("all ", options_.max_handoffs, " handoffs are used"));
  } else if (!stopping_) {
    to = PeerFor(peer);
  }
  if (!to.ok()) {
    return courier_.Post([done = std::move(done), why = to.status()] { done(why); });
  }
  const auto entry = std::make_shared<Dispatch>();
  entry->key = key;
  entry->peer = peer;
  entry->prompt_tokens = prompt_tokens;
  entry->blocks = std::move(blocks);
  entry->blocks.resize(prompt_blocks);
  entry->deadline = deadline;
  entry->linking_since = entry->state_since = RealClock()->Now();
  entry->done = std::move(done);
  entry->ready.assign(offer_.layout.layers, 0);
  entry->taken.assign(offer_.layout.layers, 0);
  entries_[key] = entry;
  ++(*to)->handoffs;
  if ((*to)->link.push != nullptr && !(*to)->broken) return Step(entry, E::kLinkUp);
  (*to)->changed.NotifyAll();
}

void Sender::LayerReady(const HandoffKey& key, uint32_t layer, uint32_t upto) {
  MutexLock lock(&mu_);
  const Entry entry = Find(key);
  if (entry == nullptr) return;
  entry->MarkReady(layer, upto, offer_.layout.block_tokens);
  Advance(entry);
}

void Sender::Finish(const HandoffKey& key, std::vector<FirstToken> first_tokens) {
  MutexLock lock(&mu_);
  const Entry entry = Find(key);
  if (entry == nullptr) return;
  entry->first_tokens = std::move(first_tokens);
  entry->finished = true;
  Advance(entry);
}

void Sender::Abort(const HandoffKey& key) {
  MutexLock lock(&mu_);
  if (const Entry entry = Find(key)) {
    Step(entry, E::kAbort, absl::CancelledError("the prefill worker cancelled the handoff"));
  }
}

Sender::Entry Sender::Find(const HandoffKey& key) {
  const auto found = entries_.find(key);
  return found == entries_.end() ? nullptr : found->second;
}

absl::StatusOr<Sender::Peer*> Sender::PeerFor(const std::string& address) {
  for (auto it = peers_.begin(); it != peers_.end();) {
    if (it->second->finished) it->second->thread.join();  // it does nothing any more
    it = it->second->finished ? peers_.erase(it) : std::next(it);
  }
  const auto found = peers_.find(address);
  if (found != peers_.end()) return found->second.get();
  if (peers_.size() >= options_.max_peers) {
    return absl::UnavailableError(absl::StrCat("links to ", options_.max_peers, " peers are open"));
  }
  auto peer = std::make_unique<Peer>();
  peer->address = address;
  ASSIGN_OR_RETURN(peer->thread, StartThread(absl::StrCat("the KV link to ", address),
                                             [this, raw = peer.get()] { Run(raw); }));
  return (peers_[address] = std::move(peer)).get();
}

void Sender::Step(const Entry& entry, E event, const absl::Status& why) {
  const S before = entry->state;
  const SenderStep step = Next(before, event);
  Peer& peer = *peers_.at(entry->peer);
  const absl::Time now = RealClock()->Now();
  entry->state = step.next;
  if (step.next != before) {
    options_.on_phase(before, now - std::exchange(entry->state_since, now));
  }
  if (step.next == S::kLinking && before != S::kLinking) entry->linking_since = now;
  if (step.next == S::kCompleting && before != S::kCompleting) entry->completing_since = now;
  if (step.actions.send_reserve) {
    entry->link = peer.link.name;
    Send(peer, ReserveMessage{entry->key, entry->prompt_tokens});
  }
  if (step.actions.send_renew) Send(peer, RenewMessage{entry->key});
  if (step.actions.send_complete) {
    Send(peer, CompleteMessage{entry->key, entry->generation, entry->first_tokens, entry->bytes,
                               entry->frames});
  }
  if (step.actions.send_abort) {
    Send(peer, AbortMessage{entry->key, ReasonFor(event), std::string(why.message())});
  }
  if (before != step.next || event == E::kRenewTime) entry->next_renewal = now + options_.renewal;
  if (!step.actions.report) return;
  entry->outcome = why;
  entry->cancelled = true;
  ReportIfQuiet(entry);
}

void Sender::Advance(const Entry& entry) {
  if (entry->state != S::kPushing) return;
  Peer& peer = *peers_.at(entry->peer);
  if (peer.broken) return;  // some frames may not have gone over; it ends with the link
  if (entry->AllPushed()) return Step(entry, E::kAllPushed);
  if (entry->queued || !entry->NextFrame(1).has_value()) return;
  entry->queued = true;
  peer.queue.push_back(entry);
  peer.changed.NotifyOne();  // each of the peer's threads that wait can push
}

// The engine may reuse the blocks once it was told: never while they are read.
void Sender::ReportIfQuiet(const Entry& entry) {
  if (entry->pushing > 0 || entry->done == nullptr) return;
  const absl::Time now = RealClock()->Now();
  absl::StatusOr<HandoffSent> result =
      HandoffSent{entry->bytes, now - std::min(now, entry->first_push),
                  peers_.at(entry->peer)->link.push_transport};
  if (!entry->outcome.ok()) result = entry->outcome;
  ++(entry->outcome.ok() ? counters_.completed : counters_.failed);
  courier_.Post([done = std::exchange(entry->done, nullptr), result = std::move(result)]() mutable {
    done(std::move(result));
  });
  --peers_.at(entry->peer)->handoffs;
  entries_.erase(entry->key);
}

void Sender::Send(const Peer& peer, ToReceiver message) {
  if (peer.link.control == nullptr) return;
  courier_.Post([control = peer.link.control, message = std::move(message)]() mutable {
    control->Send(std::move(message));
  });
}

void Sender::OnMessage(const std::string& address, const LinkName& link, const ToSender& message) {
  MutexLock lock(&mu_);
  const auto found = peers_.find(address);
  if (found == peers_.end() || found->second->link.name != link) return;  // of an older epoch
  const Entry entry = Find(KeyOf(message));
  if (entry == nullptr || entry->link != link) {
    // A reservation that nobody waits for any more: end it now rather than with its lease.
    if (std::holds_alternative<ReservedMessage>(message)) {
      Send(*found->second, AbortMessage{KeyOf(message), AbortReason::kCancelled, ""});
    }
    return;
  }
  if (const auto* reserved = std::get_if<ReservedMessage>(&message)) {
    if (entry->state != S::kReserving) return;
    if (absl::Status bad = entry->Accept(*reserved); !bad.ok()) {
      return Step(entry, E::kFault, bad);
    }
    Step(entry, E::kReserved);
    Advance(entry);
  } else if (const auto* refused = std::get_if<RefusedMessage>(&message)) {
    Step(entry, E::kRefused, StatusOf(*refused));
  } else if (const auto* abort = std::get_if<AbortMessage>(&message)) {
    Step(entry, E::kPeerAbort, StatusOf(*abort));
  } else {
    Step(entry, E::kCompleted);
  }
}

// What was written may wait in the kernels on the way, behind a peer or a network that has stopped:
// no push is there to notice, so the handoffs that want an answer do.
void Sender::BreakLink(Peer& peer, const absl::Status& why) {
  if (peer.broken) return;
  peer.broken = true;
  peer.last_error = absl::Status(why.code(), why.message());  // other threads read it
  peer.changed.NotifyAll();
}

void Sender::OnControlClosed(const std::string& address, const LinkName& link,
                             const absl::Status& why) {
  std::shared_ptr<PushConnection> push;
  {
    MutexLock lock(&mu_);
    const auto found = peers_.find(address);
    if (found == peers_.end()) return;
    Peer& peer = *found->second;
    peer.closed = link;
    if (peer.link.name != link) return;
    BreakLink(peer, why);
    push = peer.link.push;
  }
  if (push != nullptr) push->Break();
}

void Sender::Tick() {
  MutexLock lock(&mu_);
  const absl::Time now = RealClock()->Now();
  // A Complete that was lost is sent again: two may go before a link is given up.
  const absl::Duration confirm = std::max(options_.push_timeout, 2 * options_.renewal);
  std::vector<Entry> open;
  for (const auto& [key, entry] : entries_) {
    if (entry->state != S::kEnded) open.push_back(entry);
  }
  for (const Entry& entry : open) {
    if (now >= entry->deadline) {
      Step(entry, E::kDeadline, absl::DeadlineExceededError("the handoff was not over in time"));
    } else if (entry->state == S::kLinking) {
      if (now - entry->linking_since < options_.link_patience) continue;
      Step(entry, E::kLinkRefused,
           absl::UnavailableError(absl::StrCat("no KV link to ", entry->peer, ": ",
                                               peers_.at(entry->peer)->last_error.message())));
    } else if (entry->state == S::kCompleting && now - entry->completing_since >= confirm) {
      BreakLink(*peers_.at(entry->peer),
                absl::DeadlineExceededError(absl::StrCat(
                    "all KV was sent, but not confirmed within ", absl::FormatDuration(confirm))));
    } else if (now >= entry->next_renewal) {
      Step(entry, E::kRenewTime);
    }
  }
}

SenderCounters Sender::counters() const {
  MutexLock lock(&mu_);
  SenderCounters counters = counters_;
  counters.open = static_cast<uint32_t>(entries_.size());
  return counters;
}

}  // namespace tandem
