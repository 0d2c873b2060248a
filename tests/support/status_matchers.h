#pragma once
#include <gmock/gmock.h>

#include <ostream>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"

// IsOk(), IsOkAndHolds(m), StatusIs(code), StatusIs(code, message matcher): Abseil of Debian 12
// does not ship them yet.
namespace tandem {

MATCHER(IsOk, "is OK") {
  const absl::Status status = ToStatus(arg);
  *result_listener << "whose status is " << status;
  return status.ok();
}

MATCHER_P(IsOkAndHolds, inner, "is OK and holds a value that matches") {
  if (!arg.ok()) {
    *result_listener << "whose status is " << arg.status();
    return false;
  }
  return ::testing::ExplainMatchResult(inner, *arg, result_listener);
}

MATCHER_P(StatusIs, code, "has the status code " + absl::StatusCodeToString(code)) {
  const absl::Status status = ToStatus(arg);
  *result_listener << "whose status is " << status;
  return status.code() == code;
}

MATCHER_P2(StatusIs, code, message,
           "has the status code " + absl::StatusCodeToString(code) +
               " and a message that matches") {
  const absl::Status status = ToStatus(arg);
  *result_listener << "whose status is " << status;
  return status.code() == code &&
         ::testing::ExplainMatchResult(message, std::string(status.message()), result_listener);
}

}  // namespace tandem

// Declares lhs from an absl::StatusOr, and ends the test when that is an error.
#define ASSERT_OK_AND_ASSIGN(lhs, expr) \
  ASSERT_OK_AND_ASSIGN_(TANDEM_CONCAT(tandem_result_, __LINE__), lhs, expr)
#define ASSERT_OK_AND_ASSIGN_(result, lhs, expr) \
  auto result = (expr);                          \
  ASSERT_TRUE(result.ok()) << result.status();   \
  lhs = *std::move(result)
