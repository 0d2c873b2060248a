#include "base/grpc_status.h"

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

// A trailer block is refused above 8 KiB by many peers; text may grow threefold and details by a
// third in it.
constexpr size_t kLongestMessage = 1024;
constexpr size_t kLargestDetails = 3072;
constexpr int kMostDetails = 16;  // that are taken from a peer

absl::StatusCode CodeOf(int code) {
  const bool known = code >= 0 && code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  return known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown;
}

// At most kLongestMessage bytes, without a part of a character at the end.
absl::string_view Shortened(absl::string_view message) {
  if (message.size() <= kLongestMessage) return message;
  size_t end = kLongestMessage;
  while (end > 0 && (message[end] & 0xc0) == 0x80) --end;
  return message.substr(0, end);
}

// The peer took the connection and closed it again, which is all that gRPC has to say then.
bool HungUp(absl::string_view message) {
  return absl::StrContains(message, "failed to connect to all addresses") &&
         (absl::StrContains(message, "Socket closed") ||
          absl::StrContains(message, "Connection reset"));
}

}  // namespace

absl::Status WithDetail(absl::Status status, const google::protobuf::Message& detail) {
  // Through a view: clang and the g++ that Debian builds Abseil with name Cord(std::string&&)
  // differently, and the linker finds one of them only.
  const std::string bytes = detail.SerializeAsString();
  status.SetPayload(absl::StrCat("type.googleapis.com/", detail.GetDescriptor()->full_name()),
                    absl::Cord(absl::string_view(bytes)));
  return status;
}

absl::Status WithReason(absl::Status status, absl::string_view reason,
                        const std::map<std::string, std::string>& metadata) {
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(reason));
  info.set_domain(kErrorDomain);
  info.mutable_metadata()->insert(metadata.begin(), metadata.end());
  return WithDetail(std::move(status), info);
}

absl::Status WithRetryAfter(absl::Status status, absl::Duration delay) {
  google::rpc::RetryInfo info;
  const int64_t milliseconds = absl::ToInt64Milliseconds(absl::Ceil(delay, absl::Milliseconds(1)));
  info.mutable_retry_delay()->set_seconds(milliseconds / 1000);
  info.mutable_retry_delay()->set_nanos(static_cast<int32_t>(milliseconds % 1000 * 1'000'000));
  return WithDetail(std::move(status), info);
}

absl::Status WithFieldViolation(absl::Status status, absl::string_view field,
                                absl::string_view description) {
  google::rpc::BadRequest bad =
      DetailOf<google::rpc::BadRequest>(status).value_or(google::rpc::BadRequest());
  auto* violation = bad.add_field_violations();
  violation->set_field(std::string(field));
  violation->set_description(std::string(description));
  return WithDetail(std::move(status), bad);
}

absl::string_view DefaultReason(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
      return "INVALID_ARGUMENT";
    case absl::StatusCode::kUnimplemented:
      return "NOT_SUPPORTED";
    case absl::StatusCode::kNotFound:
      return "NOT_FOUND";
    case absl::StatusCode::kAlreadyExists:
      return "DUPLICATE_REQUEST";
    case absl::StatusCode::kUnavailable:
      return "NO_CAPACITY";
    case absl::StatusCode::kResourceExhausted:
      return "OVER_LIMIT";
    case absl::StatusCode::kFailedPrecondition:
      return "FAILED_PRECONDITION";
    case absl::StatusCode::kDeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    case absl::StatusCode::kCancelled:
      return "CANCELLED";
    case absl::StatusCode::kAborted:
      return "HANDOFF_ABORTED";
    case absl::StatusCode::kDataLoss:
      return "KV_DAMAGED";
    default:
      return "INTERNAL";
  }
}

google::rpc::Status ToRpcStatus(const absl::Status& status) {
  google::rpc::Status out;
  out.set_code(static_cast<int>(status.code()));
  out.set_message(std::string(Shortened(status.message())));
  std::map<std::string, std::string> details;  // sorted: absl's order is not fixed
  status.ForEachPayload(
      [&details](absl::string_view url, const absl::Cord& value) { details.emplace(url, value); });
  size_t size = 0;
  for (auto& [url, value] : details) {
    if (size + url.size() + value.size() > kLargestDetails) continue;
    size += url.size() + value.size();
    google::protobuf::Any* any = out.add_details();
    any->set_type_url(url);
    any->set_value(std::move(value));
  }
  return out;
}

absl::Status FromRpcStatus(const google::rpc::Status& status) {
  absl::Status out(CodeOf(status.code()), status.message());
  for (int i = 0; i < std::min(status.details_size(), kMostDetails); ++i) {
    const google::protobuf::Any& any = status.details(i);
    if (any.value().size() <= kLargestDetails)
      out.SetPayload(any.type_url(), absl::Cord(any.value()));
  }
  return out;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status rpc = ToRpcStatus(status);
  return grpc::Status(static_cast<grpc::StatusCode>(rpc.code()), rpc.message(),
                      rpc.details_size() > 0 ? rpc.SerializeAsString() : "");
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  google::rpc::Status rpc;
  if (status.error_details().size() > 2 * kLargestDetails ||
      !rpc.ParseFromString(status.error_details())) {
    rpc.Clear();
  }
  rpc.set_code(status.error_code());
  rpc.set_message(status.error_message());
  if (HungUp(status.error_message())) {
    rpc.mutable_message()->append(
        "; it hung up at once: one side may have TLS and the other not, or it refuses this side's "
        "certificate");
  }
  return FromRpcStatus(rpc);
}

}  // namespace tandem
