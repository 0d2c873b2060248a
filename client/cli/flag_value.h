#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tandem::cli {

// The values of flags. InvalidArgument says what the text is not.
template <typename T>
absl::StatusOr<T> ParseWhole(absl::string_view text) {
  T value = 0;
  if (absl::SimpleAtoi(text, &value)) return value;
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a whole number in range"));
}
absl::StatusOr<float> ParseReal(absl::string_view text);
absl::StatusOr<std::vector<int32_t>> ParseIds(absl::string_view text);  // "1,2,3"

}  // namespace tandem::cli
