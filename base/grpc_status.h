#pragma once
#include <google/protobuf/message.h>
#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>
#include <grpcpp/support/status.h>

#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"

// Errors across processes. Inside one, a detail (google.rpc.ErrorInfo, BadRequest, RetryInfo, ...)
// is a payload of the absl::Status, under its type URL; Annotate() keeps it. On the wire it is an
// entry of google.rpc.Status.details.
namespace tandem {

constexpr char kErrorDomain[] = "tandem";  // of every ErrorInfo that Tandem makes

// `status` with one detail added, or replaced where it already has one of that type. An OK status
// stays as it is.
absl::Status WithDetail(absl::Status status, const google::protobuf::Message& detail);

// Shorthands for the three that are used most.
//   reason  UPPER_SNAKE_CASE; stable, since programs compare it
absl::Status WithReason(absl::Status status, absl::string_view reason,
                        const std::map<std::string, std::string>& metadata = {});
absl::Status WithRetryAfter(absl::Status status, absl::Duration delay);
// Adds to the BadRequest that is there. `field`: a path such as "sampling.temperature".
absl::Status WithFieldViolation(absl::Status status, absl::string_view field,
                                absl::string_view description);

// The reason of an error that says none itself: one for each code, cluster-wide. INTERNAL stands
// for every code that only our own faults have.
absl::string_view DefaultReason(absl::StatusCode code);

// The detail of type Detail, if there is one that parses.
template <typename Detail>
std::optional<Detail> DetailOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload =
      status.GetPayload("type.googleapis.com/" + Detail::descriptor()->full_name());
  Detail detail;
  if (!payload || !detail.ParseFromString(std::string(*payload))) return std::nullopt;
  return detail;
}

// Codes are the same numbers on both sides. What would not fit into HTTP/2 trailers is cut: a
// message above 1 KiB, and details that together pass 3 KiB.
google::rpc::Status ToRpcStatus(const absl::Status& status);
absl::Status FromRpcStatus(const google::rpc::Status& status);
grpc::Status ToGrpcStatus(const absl::Status& status);
// Where the peer hung up before there was a connection, the message says that TLS may be why.
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace tandem
