#pragma once
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

// Errors travel as absl::Status; a code means one thing in the whole cluster:
//   InvalidArgument     the request (or the file) is wrong, or can never fit; never retry
//   ResourceExhausted   over a quota; retry later
//   Unavailable         no capacity or no worker now; retry, perhaps elsewhere
//   FailedPrecondition  a state or a licence forbids it
//   Unimplemented       a field or a model that this build does not honour; names it
//   DeadlineExceeded, Cancelled   the caller's time is up, or it left
//   Internal            our bug
namespace tandem {

constexpr char kReasonName[] = "tandem.reason";  // of the payload, never sent as such
constexpr char kDrainingReason[] = "DRAINING";   // of a worker that is about to stop

// "<context>: <message>", code and payloads kept: each layer adds one noun in front of the cause.
inline absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  if (status.ok()) return status;
  absl::Status out(status.code(), absl::StrCat(context, ": ", status.message()));
  status.ForEachPayload(
      [&out](absl::string_view url, const absl::Cord& value) { out.SetPayload(url, value); });
  return out;
}

// Says why where the code alone says too little, in parts that know no protobuf: it becomes the
// reason of the ErrorInfo that the error is sent with. An upper-case word.
inline absl::Status WithReasonName(absl::Status status, absl::string_view reason) {
  status.SetPayload(kReasonName, absl::Cord(reason));
  return status;
}

inline absl::Status ToStatus(absl::Status status) { return status; }
template <typename T>
absl::Status ToStatus(const absl::StatusOr<T>& result) {
  return result.status();
}

}  // namespace tandem

#define TANDEM_CONCAT_(a, b) a##b
#define TANDEM_CONCAT(a, b) TANDEM_CONCAT_(a, b)

#define RETURN_IF_ERROR(expr)                                                      \
  if (absl::Status tandem_status = ::tandem::ToStatus(expr); tandem_status.ok()) { \
  } else /* NOLINT(readability-else-after-return) */                               \
    return tandem_status

#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_(TANDEM_CONCAT(tandem_result_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_(result, lhs, expr) \
  auto result = (expr);                      \
  if (!result.ok()) return result.status();  \
  lhs = *std::move(result)
