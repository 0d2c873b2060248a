#include "kvstore/handoff/receiver.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"
#include "kvstore/transport/wire.h"

namespace tandem {
namespace {

using S = ReceiverState;
using E = ReceiverEvent;

constexpr size_t kMaxFirstTokens = 1024;  // outputs of one request

absl::Status CheckExpect(uint32_t prompt_blocks, size_t blocks, uint32_t held_blocks) {
  if (prompt_blocks > 0 && prompt_blocks <= blocks && held_blocks <= prompt_blocks) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("handoff expected into ", blocks, " blocks, ",
                                          held_blocks, " of them held; the prompt needs ",
                                          prompt_blocks));
}

// The sender's preference decides.
absl::StatusOr<Transport*> FirstInCommon(const std::vector<std::string>& offered,
                                         const Transports& here) {
  for (const std::string& name : offered) {
    for (Transport* transport : here) {
      if (transport->capabilities().name == name) return transport;
    }
  }
  return absl::FailedPreconditionError(
      absl::StrCat("no KV transport in common: ", absl::StrJoin(NamesOf(here), ", "), " here, ",
                   absl::StrJoin(offered, ", "), " at the peer"));
}

// As many connections as both sides want, as long as each one's window holds a slice.
TransportEndpoint EndpointOf(const Transport& transport, uint32_t offered_connections,
                             uint64_t slice_bytes, uint64_t window_bytes) {
  const TransportCapabilities& can = transport.capabilities();
  const uint32_t both = std::max(1u, std::min(offered_connections, can.connections));
  TransportEndpoint endpoint;
  endpoint.address = transport.address();
  endpoint.connections =
      static_cast<uint32_t>(std::clamp<uint64_t>(window_bytes / slice_bytes, 1, both));
  endpoint.window_bytes =
      std::min(window_bytes / endpoint.connections, std::max(slice_bytes, can.best_window_bytes));
  for (size_t i = 0; i < endpoint.token.size(); i += 8) {
    const uint64_t random = RandomUint64();
    std::memcpy(endpoint.token.data() + i, &random, sizeof random);
  }
  return endpoint;
}

}  // namespace

Receiver::Receiver(BlockMemory* memory, Transports transports, const ReceiverOptions& options)
    : memory_(memory),
      transports_(std::move(transports)),
      options_(options),
      layout_(memory->layout()),
      kv_abi_digest_(ShortDigest(layout_.kv_abi)),
      courier_(options.tick, [this] { Tick(); }) {
  courier_.Start();
}

Receiver::~Receiver() {
  {
    MutexLock lock(&mu_);
    const absl::Status why = absl::CancelledError("the KV receiver is shutting down");
    while (!links_.empty()) DropLink(links_.begin()->second.name, why);
    std::vector<Entry> entries;
    for (const auto& [id, entry] : receptions_) entries.push_back(entry);
    for (const Entry& entry : entries) Step(entry, E::kCancel, why);
    // A copy that still runs reports when it is over: the courier has to be there until then.
    while (!retiring_.empty()) retired_.Wait(&mu_);
  }
  courier_.Stop();
}

void Receiver::Announce(const HandoffKey& key, absl::Time deadline, Asked asked) {
  MutexLock lock(&mu_);
  const Entry entry = FindOrMake(key);
  if (entry == nullptr || entry->expected) return;
  entry->deadline = deadline;
  entry->asked = std::move(asked);
  Step(entry, E::kAnnounce);
}

void Receiver::Expect(const HandoffKey& key, uint32_t prompt_tokens, std::vector<BlockId> blocks,
                      uint32_t held_blocks, absl::Time deadline, Done done) {
  const uint32_t prompt_blocks = BlocksFor(prompt_tokens, layout_.block_tokens);
  absl::Status bad = CheckExpect(prompt_blocks, blocks.size(), held_blocks);
  MutexLock lock(&mu_);
  const Entry entry = bad.ok() ? FindOrMake(key) : nullptr;
  if (bad.ok() && entry == nullptr) {
    bad =
        absl::AbortedError(absl::StrCat("attempt ", key.attempt, " is over: a newer one is here"));
  } else if (bad.ok() && entry->expected) {
    bad = absl::InternalError("the same handoff is expected twice");
  }
  if (!bad.ok()) return courier_.Post([done = std::move(done), bad] { done(bad); });
  entry->expected = true;
  Unannounce(entry);
  entry->done = std::move(done);
  entry->prompt_tokens = prompt_tokens;
  entry->blocks = std::move(blocks);
  entry->blocks.resize(prompt_blocks);
  entry->held_blocks = held_blocks;
  entry->deadline = deadline;
  Step(entry, E::kExpect);
}

void Receiver::Cancel(const HandoffKey& key, absl::string_view why) {
  MutexLock lock(&mu_);
  const auto found = receptions_.find(key.request_id);
  if (found == receptions_.end() || found->second->key != key) return;
  const Entry entry = found->second;
  Unannounce(entry);
  Step(entry, E::kCancel,
       absl::CancelledError(absl::StrCat(entry->expected
                                             ? "the decode worker cancelled the handoff: "
                                             : "it left the decode worker's queue: ",
                                         why)));
}

absl::StatusOr<LinkGrant> Receiver::AcceptLink(const LinkOffer& offer) {
  if (offer.protocol_version != kHandoffProtocolVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("KV handoff protocol_version: ", kHandoffProtocolVersion, " here, ",
                     offer.protocol_version, " at the peer"));
  }
  RETURN_IF_ERROR(CompareLayouts(layout_, offer.layout));
  ASSIGN_OR_RETURN(Transport* const transport, FirstInCommon(offer.transports, transports_));
  if (layout_.slice_bytes() > options_.window_bytes) {
    return absl::FailedPreconditionError(
        absl::StrCat("KV landing window of ", options_.window_bytes,
                     " bytes is smaller than one slice of ", layout_.slice_bytes()));
  }
  // The same pair of processes gets the same id each time, and a new epoch.
  LinkGrant grant;
  grant.incarnation = options_.incarnation;
  grant.transport = std::string(transport->capabilities().name);
  grant.layout = layout_;
  grant.endpoint =
      EndpointOf(*transport, offer.connections, layout_.slice_bytes(), options_.window_bytes);
  TransportEndpoint& endpoint = grant.endpoint;
  endpoint.link.link_id = ShortDigest(absl::StrCat(static_cast<uint64_t>(options_.incarnation), ":",
                                                   static_cast<uint64_t>(offer.incarnation)));
  LinkName older;
  {
    MutexLock lock(&mu_);
    const auto found = links_.find(endpoint.link.link_id);
    if (found != links_.end()) {
      DropLink(found->second.name, absl::UnavailableError("the peer linked anew"));
    } else if (links_.size() >= options_.max_links) {
      return absl::UnavailableError(absl::StrCat("all ", options_.max_links, " KV links are used"));
    }
    if (const auto last = retiring_.find(endpoint.link.link_id); last != retiring_.end()) {
      older = last->second;
    }
    endpoint.link.epoch = next_epoch_++;
    links_[endpoint.link.link_id] = {endpoint.link, offer.peer, grant.transport, nullptr,
                                     RealClock()->Now() + options_.attach_timeout};
  }
  Retire(older);
  const absl::Status admitted = transport->Admit({.link = endpoint.link,
                                                  .token = endpoint.token,
                                                  .window_bytes = endpoint.window_bytes,
                                                  .connections = endpoint.connections},
                                                 this);
  {
    MutexLock lock(&mu_);
    const auto found = links_.find(endpoint.link.link_id);
    const bool current = found != links_.end() && found->second.name == endpoint.link;
    if (!admitted.ok()) {
      DropLink(endpoint.link, admitted);
      return admitted;
    }
    if (current) {
      LogInfo(
          "kv link granted",
          {{"peer", offer.peer}, {"epoch", endpoint.link.epoch}, {"transport", grant.transport}});
      return grant;
    }
  }
  // Another Link of the same pair, or the link's end, came in between: DropLink could not yet take
  // back what was admitted just now.
  Retire(endpoint.link);
  return absl::UnavailableError("the pair linked anew meanwhile");
}

void Receiver::Retire(const LinkName& link) {
  for (Transport* transport : transports_) transport->Retire(link);
}

absl::Status Receiver::Attach(const LinkName& link,
                              std::shared_ptr<ControlChannel<ToSender>> control) {
  MutexLock lock(&mu_);
  const auto found = links_.find(link.link_id);
  if (found == links_.end() || found->second.name != link || found->second.control != nullptr) {
    return absl::UnavailableError(absl::StrCat("no KV link of epoch ", link.epoch,
                                               " waits for its control stream: link anew"));
  }
  found->second.control = std::move(control);
  return absl::OkStatus();
}

void Receiver::OnMessage(const LinkName& link, ToReceiver message) {
  MutexLock lock(&mu_);
  const auto found = links_.find(link.link_id);
  if (found == links_.end() || found->second.name != link) return;  // of an older epoch
  std::visit([&](const auto& what) ABSL_NO_THREAD_SAFETY_ANALYSIS { Handle(link, what); }, message);
}

void Receiver::OnControlClosed(const LinkName& link, const absl::Status& why) {
  MutexLock lock(&mu_);
  DropLink(link, absl::UnavailableError(absl::StrCat("the KV link ended: ", why.message())));
}

void Receiver::OnLinkClosed(const LinkName& link, const absl::Status& why) {
  MutexLock lock(&mu_);
  DropLink(link, absl::UnavailableError(absl::StrCat("the KV link broke: ", why.message())));
}

void Receiver::Handle(const LinkName& link, const ReserveMessage& reserve) {
  const Entry entry = FindOrMake(reserve.key);
  if (entry == nullptr) {
    return Send(link, RefusedMessage{reserve.key, RefuseReason::kStaleAttempt, ""});
  }
  if (entry->state == S::kUnknown && parked_ >= options_.max_parked) {
    receptions_.erase(reserve.key.request_id);
    return Send(link, RefusedMessage{reserve.key, RefuseReason::kFull, "too many wait"});
  }
  const bool open =
      entry->state == S::kFilling || entry->state == S::kFilled || entry->state == S::kCompleting;
  if (!open) {
    entry->link = link;
    entry->reserved_tokens = reserve.prompt_tokens;
  }
  if (entry->link == link) Step(entry, E::kReserve);
}

void Receiver::Handle(const LinkName& link, const RenewMessage& renew) {
  Step(FindFor(link, renew.key), E::kRenew);
}

void Receiver::Handle(const LinkName& link, const CompleteMessage& complete) {
  const Entry entry = FindFor(link, complete.key);
  const bool open = entry->state == S::kFilling || entry->state == S::kFilled;
  if (open && complete.generation != entry->generation) return;
  if (open && complete.first_tokens.size() > kMaxFirstTokens) {
    return Step(entry, E::kFrameBad,
                absl::DataLossError(absl::StrCat(complete.first_tokens.size(), " first tokens")));
  }
  if (open) entry->complete = complete;
  if (entry->state == S::kFilled) {
    if (absl::Status totals = entry->CheckTotals(); !totals.ok()) {
      return Step(entry, E::kFrameBad, totals);
    }
  }
  Step(entry, E::kComplete);
}

void Receiver::Handle(const LinkName& link, const AbortMessage& abort) {
  const Entry entry = FindOrMake(abort.key);
  if (entry == nullptr || (entry->link != LinkName{} && entry->link != link)) return;
  Step(entry, E::kPeerAbort, StatusOf(abort));
}

Receiver::Entry Receiver::FindFor(const LinkName& link, const HandoffKey& key) {
  const auto found = receptions_.find(key.request_id);
  if (found != receptions_.end() && found->second->key == key) {
    if (found->second->state == S::kEnded) found->second->link = link;
    if (found->second->link == link) return found->second;
  }
  const auto unknown = std::make_shared<Reception>();
  unknown->key = key;
  unknown->link = link;
  return unknown;
}

Receiver::Entry Receiver::FindOrMake(const HandoffKey& key) {
  const auto found = receptions_.find(key.request_id);
  if (found != receptions_.end()) {
    const Entry entry = found->second;
    if (entry->key.attempt == key.attempt) return entry;
    if (entry->key.attempt > key.attempt) return nullptr;
    Step(entry, E::kReplaced,
         absl::AbortedError(absl::StrCat("attempt ", key.attempt, " replaced it")));
  }
  const auto entry = std::make_shared<Reception>();
  entry->key = key;
  receptions_[key.request_id] = entry;
  return entry;
}

}  // namespace tandem
