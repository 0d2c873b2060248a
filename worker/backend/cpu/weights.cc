#include "worker/backend/cpu/weights.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/model/dequant.h"

namespace tandem {
namespace {

absl::Status CheckPart(const WeightView& part) {
  const DTypeInfo info = InfoOf(part.dtype);
  const bool whole = part.rows > 0 && part.cols > 0 && part.cols % info.block_elements == 0;
  if (!whole || part.data == nullptr || part.bytes != part.rows * BytesFor(part.dtype, part.cols)) {
    return absl::InvalidArgumentError(absl::StrCat("weight \"", part.name, "\": [", part.rows, ", ",
                                                   part.cols, "] of ", info.name, " in ",
                                                   part.bytes, " bytes"));
  }
  if (!part.row_order.empty() && part.row_order.size() != part.rows) {
    return absl::InvalidArgumentError(absl::StrCat("weight \"", part.name, "\": an order of ",
                                                   part.row_order.size(), " rows for ", part.rows));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t TotalRows(absl::Span<const WeightView> parts) {
  int64_t rows = 0;
  for (const WeightView& part : parts) rows += part.rows;
  return rows;
}

absl::Status CheckMatrixParts(absl::Span<const WeightView> parts) {
  if (parts.empty()) return absl::InvalidArgumentError("a matrix of no weights");
  for (const WeightView& part : parts) {
    RETURN_IF_ERROR(CheckPart(part));
    if (part.cols == parts[0].cols) continue;
    return absl::InvalidArgumentError(absl::StrCat("weight \"", part.name, "\" has ", part.cols,
                                                   " columns, \"", parts[0].name, "\" has ",
                                                   parts[0].cols));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> VectorValues(absl::Span<const WeightView> parts) {
  if (parts.empty()) return absl::InvalidArgumentError("a vector of no weights");
  std::vector<float> values;
  for (const WeightView& part : parts) {
    RETURN_IF_ERROR(CheckPart(part));
    if (part.rows != 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("weight \"", part.name, "\" has ", part.rows, " rows, a vector has one"));
    }
    const size_t before = values.size();
    values.resize(before + part.cols);
    DequantizeRow(part, 0, absl::MakeSpan(values).subspan(before));
  }
  return values;
}

}  // namespace tandem
