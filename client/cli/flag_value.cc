#include "client/cli/flag_value.h"

#include "absl/strings/str_split.h"
#include "base/status.h"

namespace tandem::cli {

absl::StatusOr<float> ParseReal(absl::string_view text) {
  float value = 0;
  if (absl::SimpleAtof(text, &value)) return value;
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a number"));
}

absl::StatusOr<std::vector<int32_t>> ParseIds(absl::string_view text) {
  std::vector<int32_t> ids;
  for (const absl::string_view id : absl::StrSplit(text, ',')) {
    ASSIGN_OR_RETURN(const int32_t token, ParseWhole<int32_t>(id));
    ids.push_back(token);
  }
  return ids;
}

}  // namespace tandem::cli
