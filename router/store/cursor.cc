#include "router/store/cursor.h"

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/utf8.h"

namespace tandem {
namespace {

constexpr char kSeparator = '\0';  // which no stored text has
constexpr size_t kCursorBytesMax = 4096;

absl::Status Wrong(absl::string_view listing) {
  return absl::InvalidArgumentError(
      absl::StrCat("page.cursor is not one that the listing of ", listing, " gave"));
}

}  // namespace

std::string EncodeCursor(absl::string_view listing, absl::Span<const SqlValue> position) {
  std::string plain(listing);
  for (const SqlValue& value : position) {
    plain += kSeparator;
    if (const auto* number = std::get_if<int64_t>(&value)) {
      absl::StrAppend(&plain, *number);
    } else if (const auto* text = std::get_if<std::string>(&value)) {
      plain += *text;
    }
  }
  return absl::WebSafeBase64Escape(plain);
}

absl::StatusOr<std::vector<SqlValue>> DecodeCursor(absl::string_view listing,
                                                   absl::string_view cursor,
                                                   std::vector<SqlValue> first) {
  if (cursor.empty()) return first;
  std::string plain;
  if (cursor.size() > kCursorBytesMax || !absl::WebSafeBase64Unescape(cursor, &plain) ||
      !IsUtf8(plain)) {
    return Wrong(listing);
  }
  const std::vector<std::string> parts = absl::StrSplit(plain, kSeparator);
  if (parts.size() != first.size() + 1 || parts[0] != listing) return Wrong(listing);
  for (size_t i = 0; i < first.size(); ++i) {
    if (auto* number = std::get_if<int64_t>(&first[i])) {
      if (!absl::SimpleAtoi(parts[i + 1], number)) return Wrong(listing);
    } else {
      first[i] = parts[i + 1];
    }
  }
  return first;
}

}  // namespace tandem
