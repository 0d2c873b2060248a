#include "worker/service/handoff_messages.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/service/layout_message.h"

namespace tandem {
namespace {

namespace pb = kv::v1;

constexpr size_t kMaxRequestId = 128;  // bytes
constexpr size_t kMaxName = 1024;      // bytes of a digest, an address, a detail
constexpr int kMaxFirstTokens = 1024;
constexpr int kMaxTransports = 16;

absl::Status CheckLength(absl::string_view field, const std::string& value, size_t max) {
  if (value.size() <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("kv message: ", field, " of ", value.size(), " bytes, the limit is ", max));
}

pb::HandoffId ToProto(const HandoffKey& key) {
  pb::HandoffId id;
  id.set_request_id(key.request_id);
  id.set_attempt(key.attempt);
  return id;
}

absl::StatusOr<HandoffKey> FromProto(const pb::HandoffId& id) {
  if (id.request_id().empty()) return absl::InvalidArgumentError("kv message: no request_id");
  RETURN_IF_ERROR(CheckLength("request_id", id.request_id(), kMaxRequestId));
  return HandoffKey{id.request_id(), id.attempt()};
}

// Both enums list the same reasons in the same order; 0 is "unspecified" on the wire.
pb::Abort::Reason ToProto(AbortReason reason) {
  return static_cast<pb::Abort::Reason>(static_cast<int>(reason) + 1);
}
pb::Refused::Reason ToProto(RefuseReason reason) {
  return static_cast<pb::Refused::Reason>(static_cast<int>(reason) + 1);
}
static_assert(static_cast<int>(AbortReason::kInternal) + 1 == pb::Abort::REASON_INTERNAL);
static_assert(static_cast<int>(RefuseReason::kStaleAttempt) + 1 ==
              pb::Refused::REASON_STALE_ATTEMPT);

pb::Abort ToProto(const AbortMessage& abort) {
  pb::Abort message;
  *message.mutable_id() = ToProto(abort.key);
  message.set_reason(ToProto(abort.reason));
  message.set_detail(abort.detail.substr(0, kMaxName));
  return message;
}

absl::StatusOr<AbortMessage> FromProto(const pb::Abort& message) {
  ASSIGN_OR_RETURN(HandoffKey key, FromProto(message.id()));
  RETURN_IF_ERROR(CheckLength("detail", message.detail(), kMaxName));
  const bool known = message.reason() >= 1 && pb::Abort::Reason_IsValid(message.reason());
  return AbortMessage{
      std::move(key),
      known ? static_cast<AbortReason>(message.reason() - 1) : AbortReason::kInternal,
      message.detail()};
}

absl::StatusOr<CompleteMessage> FromProto(const pb::Complete& message) {
  CompleteMessage complete;
  ASSIGN_OR_RETURN(complete.key, FromProto(message.id()));
  complete.generation = message.generation();
  complete.bytes = message.bytes();
  complete.frames = message.frames();
  if (message.first_tokens_size() > kMaxFirstTokens) {
    return absl::InvalidArgumentError(absl::StrCat("kv message: ", message.first_tokens_size(),
                                                   " first_tokens, the limit is ",
                                                   kMaxFirstTokens));
  }
  for (const pb::FirstToken& token : message.first_tokens()) {
    complete.first_tokens.push_back({token.output_index(), token.token_id(), token.ended()});
  }
  return complete;
}

struct Writer {  // one message into the oneof of the wire
  pb::HandoffRequest* request = nullptr;
  pb::HandoffResponse* response = nullptr;

  void operator()(const ReserveMessage& reserve) const {
    *request->mutable_reserve()->mutable_id() = ToProto(reserve.key);
    request->mutable_reserve()->set_prompt_tokens(reserve.prompt_tokens);
  }
  void operator()(const RenewMessage& renew) const {
    *request->mutable_renew()->mutable_id() = ToProto(renew.key);
  }
  void operator()(const CompleteMessage& complete) const {
    pb::Complete* message = request->mutable_complete();
    *message->mutable_id() = ToProto(complete.key);
    message->set_generation(complete.generation);
    message->set_bytes(complete.bytes);
    message->set_frames(complete.frames);
    for (const FirstToken& token : complete.first_tokens) {
      pb::FirstToken* first = message->add_first_tokens();
      first->set_output_index(token.output_index);
      first->set_token_id(token.token_id);
      first->set_ended(token.ended);
    }
  }
  void operator()(const AbortMessage& abort) const {
    if (request != nullptr) *request->mutable_abort() = ToProto(abort);
    if (response != nullptr) *response->mutable_abort() = ToProto(abort);
  }
  void operator()(const ReservedMessage& reserved) const {
    pb::Reserved* message = response->mutable_reserved();
    *message->mutable_id() = ToProto(reserved.key);
    message->set_first_block(reserved.first_block);
    message->set_blocks(reserved.blocks);
    message->set_generation(reserved.generation);
    message->set_lease_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(reserved.lease)));
  }
  void operator()(const RefusedMessage& refused) const {
    *response->mutable_refused()->mutable_id() = ToProto(refused.key);
    response->mutable_refused()->set_reason(ToProto(refused.reason));
    response->mutable_refused()->set_detail(refused.detail.substr(0, kMaxName));
  }
  void operator()(const CompletedMessage& completed) const {
    *response->mutable_completed()->mutable_id() = ToProto(completed.key);
  }
};

}  // namespace

pb::HandoffRequest ToProto(const ToReceiver& message) {
  pb::HandoffRequest request;
  std::visit(Writer{.request = &request}, message);
  return request;
}

pb::HandoffResponse ToProto(const ToSender& message) {
  pb::HandoffResponse response;
  std::visit(Writer{.response = &response}, message);
  return response;
}

pb::OpenLink ToProto(const LinkName& link) {
  pb::OpenLink message;
  message.set_link_id(link.link_id);
  message.set_epoch(link.epoch);
  return message;
}

LinkName FromProto(const pb::OpenLink& link) { return {link.link_id(), link.epoch()}; }

pb::LinkRequest ToProto(const LinkOffer& offer) {
  pb::LinkRequest message;
  message.set_protocol_version(offer.protocol_version);
  message.set_incarnation(static_cast<uint64_t>(offer.incarnation));
  *message.mutable_layout() = ToProto(offer.layout);
  for (const std::string& transport : offer.transports) message.add_transports(transport);
  message.set_peer(offer.peer);
  message.set_connections(offer.connections);
  return message;
}

pb::LinkResponse ToProto(const LinkGrant& grant) {
  pb::LinkResponse message;
  message.set_link_id(grant.endpoint.link.link_id);
  message.set_epoch(grant.endpoint.link.epoch);
  message.set_incarnation(static_cast<uint64_t>(grant.incarnation));
  message.set_transport(grant.transport);
  message.set_transport_address(grant.endpoint.address);
  message.set_transport_token(grant.endpoint.token.data(), grant.endpoint.token.size());
  message.set_window_bytes(grant.endpoint.window_bytes);
  message.set_connections(grant.endpoint.connections);
  *message.mutable_layout() = ToProto(grant.layout);
  return message;
}

absl::StatusOr<ToReceiver> FromProto(const pb::HandoffRequest& message) {
  switch (message.message_case()) {
    case pb::HandoffRequest::kReserve: {
      ASSIGN_OR_RETURN(HandoffKey key, FromProto(message.reserve().id()));
      return ReserveMessage{std::move(key), message.reserve().prompt_tokens()};
    }
    case pb::HandoffRequest::kRenew: {
      ASSIGN_OR_RETURN(HandoffKey key, FromProto(message.renew().id()));
      return RenewMessage{std::move(key)};
    }
    case pb::HandoffRequest::kComplete:
      return FromProto(message.complete());
    case pb::HandoffRequest::kAbort:
      return FromProto(message.abort());
    default:
      return absl::InvalidArgumentError("kv message: nothing of a handoff in it");
  }
}

absl::StatusOr<ToSender> FromProto(const pb::HandoffResponse& message) {
  switch (message.message_case()) {
    case pb::HandoffResponse::kReserved: {
      const pb::Reserved& reserved = message.reserved();
      ASSIGN_OR_RETURN(HandoffKey key, FromProto(reserved.id()));
      return ReservedMessage{std::move(key), reserved.first_block(), reserved.blocks(),
                             reserved.generation(), absl::Milliseconds(reserved.lease_ms())};
    }
    case pb::HandoffResponse::kRefused: {
      const pb::Refused& refused = message.refused();
      ASSIGN_OR_RETURN(HandoffKey key, FromProto(refused.id()));
      RETURN_IF_ERROR(CheckLength("detail", refused.detail(), kMaxName));
      const bool known = refused.reason() >= 1 && pb::Refused::Reason_IsValid(refused.reason());
      return RefusedMessage{
          std::move(key),
          known ? static_cast<RefuseReason>(refused.reason() - 1) : RefuseReason::kFull,
          refused.detail()};
    }
    case pb::HandoffResponse::kCompleted: {
      ASSIGN_OR_RETURN(HandoffKey key, FromProto(message.completed().id()));
      return CompletedMessage{std::move(key)};
    }
    case pb::HandoffResponse::kAbort:
      return FromProto(message.abort());
    default:
      return absl::InvalidArgumentError("kv message: nothing of a handoff in it");
  }
}

absl::StatusOr<LinkOffer> FromProto(const pb::LinkRequest& message) {
  LinkOffer offer;
  offer.protocol_version = message.protocol_version();
  offer.incarnation = Incarnation{message.incarnation()};
  ASSIGN_OR_RETURN(offer.layout, FromProto(message.layout()));
  if (message.transports_size() > kMaxTransports) {
    return absl::InvalidArgumentError(
        absl::StrCat("kv message: ", message.transports_size(), " transports"));
  }
  for (const std::string& transport : message.transports()) {
    RETURN_IF_ERROR(CheckLength("transports", transport, kMaxName));
    offer.transports.push_back(transport);
  }
  RETURN_IF_ERROR(CheckLength("peer", message.peer(), kMaxName));
  offer.peer = message.peer();
  offer.connections = std::max(1u, message.connections());
  return offer;
}

absl::StatusOr<LinkGrant> FromProto(const pb::LinkResponse& message) {
  LinkGrant grant;
  grant.incarnation = Incarnation{message.incarnation()};
  grant.transport = message.transport();
  grant.endpoint.link = {message.link_id(), message.epoch()};
  grant.endpoint.address = message.transport_address();
  grant.endpoint.window_bytes = message.window_bytes();
  grant.endpoint.connections = std::max(1u, message.connections());
  if (message.transport_token().size() != grant.endpoint.token.size()) {
    return absl::InvalidArgumentError(absl::StrCat("kv message: transport_token of ",
                                                   message.transport_token().size(), " bytes"));
  }
  std::memcpy(grant.endpoint.token.data(), message.transport_token().data(),
              grant.endpoint.token.size());
  ASSIGN_OR_RETURN(grant.layout, FromProto(message.layout()));
  return grant;
}

}  // namespace tandem
