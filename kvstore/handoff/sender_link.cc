#include "kvstore/handoff/sender_link.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status.h"

namespace tandem {
namespace {

absl::Status CheckGrant(const LinkOffer& offer, const LinkGrant& grant) {
  RETURN_IF_ERROR(CompareLayouts(offer.layout, grant.layout));
  if (std::find(offer.transports.begin(), offer.transports.end(), grant.transport) ==
      offer.transports.end()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the peer chose KV transport \"", grant.transport, "\", which was not offered"));
  }
  if (grant.endpoint.connections == 0 || grant.endpoint.connections > offer.connections) {
    return absl::FailedPreconditionError(absl::StrCat("the peer wants ", grant.endpoint.connections,
                                                      " KV connections, offered were 1 to ",
                                                      offer.connections));
  }
  if (grant.endpoint.window_bytes >= offer.layout.slice_bytes()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the peer's landing window of ", grant.endpoint.window_bytes,
                   " bytes is smaller than one slice of ", offer.layout.slice_bytes()));
}

Transport* Named(const Transports& transports, absl::string_view name) {
  return *std::find_if(transports.begin(), transports.end(), [name](const Transport* transport) {
    return transport->capabilities().name == name;
  });
}

}  // namespace

absl::StatusOr<SenderLink> EstablishLink(const std::string& peer, const LinkOffer& offer,
                                         ControlDoor* door, const Transports& transports,
                                         const ControlEvents& events, absl::Time deadline) {
  LinkOffer rest = offer;
  SenderLink link;
  while (true) {
    ASSIGN_OR_RETURN(const LinkGrant grant, door->Link(peer, rest, deadline));
    RETURN_IF_ERROR(CheckGrant(rest, grant));
    Transport* const transport = Named(transports, grant.transport);
    const bool has_next = !transport->capabilities().crosses_hosts && rest.transports.size() > 1;
    const absl::Time now = RealClock()->Now();
    auto push =
        transport->Connect(grant.endpoint, has_next ? now + (deadline - now) / 2 : deadline);
    if (push.ok()) {
      link.name = grant.endpoint.link;
      link.window_bytes = grant.endpoint.window_bytes;
      link.connections = grant.endpoint.connections;
      link.push_transport = grant.transport;
      link.push = *std::move(push);
      break;
    }
    if (!has_next) return push.status();
    link.passed_over = Annotate(push.status(), grant.transport);
    std::erase(rest.transports, grant.transport);
  }
  ASSIGN_OR_RETURN(link.control, door->Open(peer, link.name, events, deadline));
  return link;
}

}  // namespace tandem
