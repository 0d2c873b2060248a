#include "worker/backend/cpu/packed_matrix.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/backend/cpu/kernels.h"
#include "worker/backend/cpu/panel_blocks.h"
#include "worker/backend/cpu/weights.h"
#include "worker/model/dequant.h"

namespace tandem {
namespace {

// Where one row lies: lane `lane` of the steps that start at `first`, `stride` bytes apart.
struct RowPlace {
  uint8_t* first;
  size_t stride;
  int lane;
};

RowPlace PlaceOf(const PackedMatrix::Segment& segment, int64_t row) {
  const int64_t panel = row / kLanes;
  const int64_t in_group = panel % kGroupPanels, group = panel - in_group;
  const int64_t width = std::min<int64_t>(kGroupPanels, segment.panels - group);
  const size_t step_bytes = size_t{kLanes} * InfoOf(segment.dtype).block_bytes;
  return {segment.data + group * segment.panel_bytes + in_group * step_bytes, width * step_bytes,
          static_cast<int>(row % kLanes)};
}

void PackRow(DType dtype, const uint8_t* row, int64_t cols, const RowPlace& place) {
  const DTypeInfo info = InfoOf(dtype);
  uint8_t* step = place.first;
  for (int64_t k = 0; k < cols; k += info.block_elements) {
    if (IsQuantized(dtype)) {
      PackBlock(dtype, row, place.lane, step);
    } else {
      std::memcpy(step + place.lane * info.block_bytes, row, info.block_bytes);
    }
    row += info.block_bytes;
    step += place.stride;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<PackedMatrix>> PackedMatrix::Pack(absl::Span<const WeightView> parts,
                                                                 Arena* arena) {
  auto matrix = absl::WrapUnique(new PackedMatrix(TotalRows(parts), parts[0].cols));
  int64_t next_row = 0;
  for (size_t i = 0; i < parts.size();) {
    Segment segment{.dtype = parts[i].dtype, .first_row = next_row};
    size_t end = i;
    for (; end < parts.size() && parts[end].dtype == segment.dtype; ++end) {
      segment.rows += parts[end].rows;
    }
    segment.panels = (segment.rows + kLanes - 1) / kLanes;
    segment.panel_bytes = kLanes * BytesFor(segment.dtype, matrix->cols());
    ASSIGN_OR_RETURN(segment.data, arena->Allocate(segment.panels * segment.panel_bytes));
    int64_t packed = 0;
    for (; i < end; ++i) {
      for (int64_t row = 0; row < parts[i].rows; ++row, ++packed) {
        PackRow(segment.dtype, parts[i].Row(row), matrix->cols(), PlaceOf(segment, packed));
      }
    }
    next_row += segment.rows;
    matrix->segments_.push_back(segment);
  }
  return matrix;
}

size_t PackedMatrix::bytes() const {
  size_t bytes = 0;
  for (const Segment& segment : segments_) bytes += segment.panels * segment.panel_bytes;
  return bytes;
}

void PackedMatrix::UnpackRow(int64_t row, float* out) const {
  const auto above = std::find_if(segments_.begin(), segments_.end(),
                                  [row](const Segment& s) { return row < s.first_row + s.rows; });
  const Segment& segment = *above;
  const DTypeInfo info = InfoOf(segment.dtype);
  const RowPlace place = PlaceOf(segment, row - segment.first_row);
  const uint8_t* step = place.first;
  uint8_t block[kBlockBytesMax] = {};
  for (int64_t k = 0; k < cols(); k += info.block_elements) {
    if (IsQuantized(segment.dtype)) {
      UnpackBlock(segment.dtype, step, place.lane, block);
    } else {
      std::memcpy(block, step + place.lane * info.block_bytes, info.block_bytes);
    }
    Dequantize(segment.dtype, block, {out + k, static_cast<size_t>(info.block_elements)});
    step += place.stride;
  }
}

}  // namespace tandem
