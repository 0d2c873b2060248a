#pragma once
#include "absl/status/statusor.h"
#include "kvstore/handoff/messages.h"
#include "tandem/kv/v1/kv.pb.h"

// Between tandem.kv.v1 messages and kvstore/handoff/messages.h.
//   errors  InvalidArgument for a message that a peer must not send: nothing set, a field over its
//           limit, a token that is not 16 bytes
namespace tandem {

kv::v1::HandoffRequest ToProto(const ToReceiver& message);
kv::v1::HandoffResponse ToProto(const ToSender& message);
kv::v1::LinkRequest ToProto(const LinkOffer& offer);
kv::v1::LinkResponse ToProto(const LinkGrant& grant);
kv::v1::OpenLink ToProto(const LinkName& link);

absl::StatusOr<ToReceiver> FromProto(const kv::v1::HandoffRequest& message);
absl::StatusOr<ToSender> FromProto(const kv::v1::HandoffResponse& message);
absl::StatusOr<LinkOffer> FromProto(const kv::v1::LinkRequest& message);
absl::StatusOr<LinkGrant> FromProto(const kv::v1::LinkResponse& message);
LinkName FromProto(const kv::v1::OpenLink& link);

}  // namespace tandem
