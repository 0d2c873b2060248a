#include "router/store/price.h"

#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

constexpr int kFractionDigits = 9;

absl::Status Wrong(absl::string_view decimal, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("'", decimal.substr(0, 40), "' is no amount of money: ", why));
}

}  // namespace

absl::StatusOr<int64_t> ParseNanoUnits(absl::string_view decimal) {
  const size_t point = decimal.find('.');
  const absl::string_view whole = decimal.substr(0, point);
  const absl::string_view fraction =
      point == absl::string_view::npos ? absl::string_view() : decimal.substr(point + 1);
  if (whole.empty() || (point != absl::string_view::npos && fraction.empty())) {
    return Wrong(decimal, "write digits on both sides of a point, as in 0.60");
  }
  if (fraction.size() > kFractionDigits) return Wrong(decimal, "at most 9 digits after the point");
  int64_t nano = 0;
  for (size_t i = 0; i < whole.size() + kFractionDigits; ++i) {
    char digit = '0';
    if (i < whole.size()) {
      digit = whole[i];
    } else if (i - whole.size() < fraction.size()) {
      digit = fraction[i - whole.size()];
    }
    if (!absl::ascii_isdigit(digit)) return Wrong(decimal, "only digits and one point");
    if (nano > (std::numeric_limits<int64_t>::max() - (digit - '0')) / 10) {
      return Wrong(decimal, "the most is 9223372036.854775807");
    }
    nano = nano * 10 + (digit - '0');
  }
  return nano;
}

}  // namespace tandem
