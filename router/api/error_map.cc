#include "router/api/error_map.h"

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"
#include "base/log.h"

namespace tandem {
namespace {

constexpr absl::Duration kRetryAfter = absl::Seconds(1);

bool IsOurBug(absl::StatusCode code) { return DefaultReason(code) == "INTERNAL"; }

}  // namespace

grpc::Status ToClient(const absl::Status& status, const std::string& request_id) {
  if (status.ok()) return grpc::Status::OK;
  absl::Status out = status;
  if (absl::IsDataLoss(status) || absl::IsAborted(status)) {
    // A digest that does not match, or a handoff that was given up: nobody's bug here, and another
    // try has another chance.
    out = WithReason(absl::UnavailableError(status.message()), DefaultReason(status.code()),
                     {{"retry", "safe"}});
  } else if (IsOurBug(status.code())) {
    LogError("request failed by our own fault", {{"request_id", request_id}, {"error", status}});
    out = absl::InternalError("internal error; the router's log has it under the request's id");
  }
  const auto info = DetailOf<google::rpc::ErrorInfo>(out);
  std::map<std::string, std::string> metadata;
  if (info) metadata.insert(info->metadata().begin(), info->metadata().end());
  if (!request_id.empty()) metadata["request_id"] = request_id;
  const std::string reason(info ? absl::string_view(info->reason()) : DefaultReason(out.code()));
  out = WithReason(out, reason, metadata);
  if (out.code() == absl::StatusCode::kUnavailable && !DetailOf<google::rpc::RetryInfo>(out)) {
    out = WithRetryAfter(out, kRetryAfter);
  }
  return ToGrpcStatus(out);
}

absl::Status WorkerLost(const absl::Status& why) {
  if (DetailOf<google::rpc::ErrorInfo>(why)) return why;
  return WithReason(absl::UnavailableError(why.message()), "WORKER_LOST", {{"retry", "safe"}});
}

absl::Status TooManyRequests(size_t running, size_t limit) {
  return WithReason(absl::UnavailableError(
                        absl::StrCat("the router carries ", running, " requests, at most ", limit)),
                    "ROUTER_FULL", {{"retry", "safe"}});
}

absl::Status TooManyBytes(size_t held, size_t more, size_t limit) {
  return WithReason(absl::UnavailableError(absl::StrCat("the router carries ", held,
                                                        " bytes of requests and this one has ",
                                                        more, "; at most ", limit)),
                    "ROUTER_FULL", {{"retry", "safe"}});
}

absl::Status PromptQueueFull() {
  return WithReason(absl::UnavailableError("too many prompts wait to be tokenised"), "ROUTER_FULL",
                    {{"retry", "safe"}});
}

absl::Status Stopping() {
  return WithReason(absl::UnavailableError("the router is stopping"), "STOPPING",
                    {{"retry", "safe"}});
}

absl::Status DuplicateRequest(const std::string& request_id) {
  return WithReason(
      absl::AlreadyExistsError(absl::StrCat("request_id ", request_id, " is running already")),
      "DUPLICATE_REQUEST");
}

absl::Status SlowClient() {
  return WithReason(absl::CancelledError("the client did not read its answer in time"),
                    "SLOW_CLIENT");
}

absl::Status ClientGone(bool deadline_passed) {
  if (deadline_passed) return absl::DeadlineExceededError("the request's deadline has passed");
  return absl::CancelledError("the client cancelled the request");
}

absl::Status UnknownModel(const std::string& asked, const std::string& served) {
  const std::string why = asked.empty() ? "say which model; served are: "
                                        : absl::StrCat("no model ", asked, "; served are: ");
  const absl::Status status =
      asked.empty() ? absl::InvalidArgumentError(why + served) : absl::NotFoundError(why + served);
  return WithReason(asked.empty() ? WithFieldViolation(status, "model", why + served) : status,
                    asked.empty() ? "MODEL_MISSING" : "MODEL_NOT_FOUND");
}

absl::Status NoModelYet(const std::string& workers) {
  return WithReason(
      absl::UnavailableError(absl::StrCat("no model can be served; tried: ", workers)), "NO_WORKER",
      {{"retry", "safe"}});
}

}  // namespace tandem
