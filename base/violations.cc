#include "base/violations.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"

namespace tandem {
namespace {

// A whole number as one, any other with as many digits as tell it from its neighbours: a field of
// 32 bits with fewer.
std::string NumberText(double value) {
  constexpr double kWhole = uint64_t{1} << 53;  // below it each whole number is a double
  if (std::trunc(value) == value && std::abs(value) <= kWhole) {
    return absl::StrCat(static_cast<int64_t>(value));
  }
  char text[32];
  const auto narrow = static_cast<float>(value);
  const std::to_chars_result end = narrow == value ? std::to_chars(text, text + sizeof text, narrow)
                                                   : std::to_chars(text, text + sizeof text, value);
  return {text, end.ptr};
}

}  // namespace

void Violations::Range(absl::string_view field, double value, const ValueRange& range) {
  const bool low_enough = range.without_min ? value > range.min : value >= range.min;
  if (low_enough && value <= range.max) return;
  Add(std::string(field),
      absl::StrCat("it is ", NumberText(value), range.without_min ? ", want above " : ", want ",
                   NumberText(range.min), range.without_min ? " and at most " : " to ",
                   NumberText(range.max)));
}

void Violations::Bytes(absl::string_view field, size_t bytes, size_t min, size_t max) {
  if (bytes >= min && bytes <= max) return;
  Add(std::string(field), absl::StrCat("it has ", bytes, " bytes, want ", min, " to ", max));
}

bool Violations::Count(absl::string_view field, size_t entries, size_t max) {
  if (entries <= max) return true;
  Add(std::string(field), absl::StrCat("it has ", entries, " entries, at most ", max));
  return false;
}

absl::Status Violations::ToStatus() const {
  if (found_.empty()) return absl::OkStatus();
  const auto& [field, why] = found_.front();
  const std::string more =
      count_ > 1 ? absl::StrCat(" (and ", count_ - 1, " more wrong fields)") : "";
  absl::Status status = absl::InvalidArgumentError(absl::StrCat(field, ": ", why, more));
  for (const auto& [wrong, reason] : found_) {
    status = WithFieldViolation(std::move(status), wrong, reason);
  }
  return status;
}

}  // namespace tandem
