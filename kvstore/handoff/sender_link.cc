#include "kvstore/handoff/sender_link.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {

absl::StatusOr<SenderLink> EstablishLink(const std::string& peer, const LinkOffer& offer,
                                         ControlDoor* door, Transport* transport,
                                         const ControlEvents& events, absl::Time deadline) {
  ASSIGN_OR_RETURN(const LinkGrant grant, door->Link(peer, offer, deadline));
  RETURN_IF_ERROR(CompareLayouts(offer.layout, grant.layout));
  if (grant.transport != transport->capabilities().name) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the peer chose KV transport \"", grant.transport, "\", which was not offered"));
  }
  if (grant.endpoint.window_bytes < offer.layout.slice_bytes()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the peer's landing window of ", grant.endpoint.window_bytes,
                     " bytes is smaller than one slice of ", offer.layout.slice_bytes()));
  }
  SenderLink link{grant.endpoint.link, grant.endpoint.window_bytes};
  ASSIGN_OR_RETURN(link.push, transport->Connect(grant.endpoint, deadline));
  ASSIGN_OR_RETURN(link.control, door->Open(peer, link.name, events, deadline));
  return link;
}

}  // namespace tandem
