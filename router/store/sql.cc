#include "router/store/sql.h"

#include "absl/strings/str_cat.h"

namespace tandem {

template <typename T>
std::optional<T> RowReader::Next(bool null_is_good) {
  if (next_ >= row_.size()) {
    good_ = false;
    return std::nullopt;
  }
  const SqlValue& value = row_[next_++];
  if (const T* found = std::get_if<T>(&value)) return *found;
  if (!null_is_good || !std::holds_alternative<std::monostate>(value)) good_ = false;
  return std::nullopt;
}

int64_t RowReader::Int() { return Next<int64_t>(false).value_or(0); }

std::string RowReader::Text() { return Next<std::string>(false).value_or(""); }

std::string RowReader::Bytes() { return Next<Blob>(false).value_or(Blob()).bytes; }

std::optional<int64_t> RowReader::MaybeInt() { return Next<int64_t>(true); }

std::string RowReader::TextOrEmpty() { return Next<std::string>(true).value_or(""); }

std::optional<std::string> RowReader::MaybeBytes() {
  std::optional<Blob> blob = Next<Blob>(true);
  if (!blob) return std::nullopt;
  return std::move(blob->bytes);
}

std::optional<absl::Time> RowReader::MaybeTime() {
  const std::optional<int64_t> micros = MaybeInt();
  if (!micros) return std::nullopt;
  return absl::FromUnixMicros(*micros);
}

absl::Status RowReader::Done() const {
  if (good_ && next_ == row_.size()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("a row of the store is not as it was written (column ",
                                          next_, " of ", row_.size(), ")"));
}

SqlValue SqlTime(absl::Time time) { return absl::ToUnixMicros(time); }

SqlValue SqlTime(const std::optional<absl::Time>& time) {
  return time ? SqlTime(*time) : SqlValue();
}

SqlValue SqlTextOrNull(const std::string& text) {
  return text.empty() ? SqlValue() : SqlValue(text);
}

SqlValue SqlText(absl::string_view text) { return std::string(text); }

std::string Placeholders(int rows, int columns) {
  std::string out;
  for (int row = 0; row < rows; ++row) {
    absl::StrAppend(&out, row == 0 ? "(" : ", (");
    for (int column = 0; column < columns; ++column) {
      absl::StrAppend(&out, column == 0 ? "$" : ", $", row * columns + column + 1);
    }
    out += ")";
  }
  return out;
}

}  // namespace tandem
