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

// Where one row lies: lane `lane` of the steps that start with `step`, `stride` bytes apart.
struct RowPlace {
  BlockStep step;
  size_t stride;
  int lane;
};

// Inputs and bytes of a panel's step: panel_formats.h. Neighbouring bfloat16 share a word.
struct Step {
  int32_t inputs, bytes;
};
Step StepOf(DType dtype) {
  if (dtype == DType::kBF16) return {2, kLanes * 4};
  return {InfoOf(dtype).block_elements, kLanes * InfoOf(dtype).block_bytes};
}

// bfloat16 of an odd number of inputs, which no real model has, is kept as float32.
DType PackedTypeOf(const WeightView& part) {
  return part.dtype == DType::kBF16 && part.cols % 2 != 0 ? DType::kF32 : part.dtype;
}

// Whole-number types alternate row by row, in groups that are always full; others step by step.
RowPlace PlaceOf(const PackedMatrix::Segment& segment, int64_t row) {
  const int64_t panel = row / kLanes;
  const int64_t in_group = panel % kGroupPanels, group = panel - in_group;
  const int lane = static_cast<int>(row % kLanes);
  const size_t step_bytes = StepOf(segment.dtype).bytes;
  uint8_t* const first = segment.data + group * segment.panel_bytes;
  if (IsFixed(segment.dtype)) {
    return {{first, static_cast<int>(in_group), kGroupPanels}, kGroupPanels * step_bytes, lane};
  }
  const int64_t width = std::min<int64_t>(kGroupPanels, segment.panels - group);
  return {{first + in_group * step_bytes}, width * step_bytes, lane};
}

// Panels that memory is needed for.
int64_t PanelsHeld(const PackedMatrix::Segment& segment) {
  if (!IsFixed(segment.dtype)) return segment.panels;
  return (segment.panels + kGroupPanels - 1) / kGroupPanels * kGroupPanels;
}

// Copies element k of 16 rows to step k, for all k: a square of elements at a time, so that cache
// lines of both are used whole. A T of the file becomes a word or half as `convert` says.
template <typename T, typename Convert>
void PackElements(const uint8_t* const* rows, int lanes, int64_t count, const RowPlace& place,
                  Convert convert) {
  constexpr int kSquare = 16;
  decltype(convert(T{})) square[kSquare][kLanes] = {};
  uint8_t* step = place.step.first;
  for (int64_t first = 0; first < count; first += kSquare) {
    const int width = static_cast<int>(std::min<int64_t>(kSquare, count - first));
    for (int i = 0; i < lanes; ++i) {
      const uint8_t* from = rows[i] + first * sizeof(T);
      for (int k = 0; k < width; ++k, from += sizeof(T)) {
        T element;
        std::memcpy(&element, from, sizeof(T));
        square[k][i] = convert(element);
      }
    }
    for (int k = 0; k < width; ++k, step += place.stride) {
      std::memcpy(step, square[k], sizeof(square[k]));
    }
  }
}

void PackBlockRows(DType dtype, const uint8_t* const* rows, int lanes, int64_t cols,
                   RowPlace place) {
  const DTypeInfo info = InfoOf(dtype);
  const uint8_t* blocks[kLanes];
  std::copy_n(rows, lanes, blocks);
  for (int64_t k = 0; k < cols; k += info.block_elements, place.step.first += place.stride) {
    PackBlocks(dtype, blocks, lanes, place.step);
    for (int i = 0; i < lanes; ++i) blocks[i] += info.block_bytes;
  }
}

// Rows of type `from`, into a panel of PackedTypeOf it.
void PackPanel(DType from, const uint8_t* const* rows, int lanes, int64_t cols,
               const RowPlace& place) {
  const auto keep = [](auto element) { return element; };
  switch (from) {
    case DType::kF32:
      return PackElements<uint32_t>(rows, lanes, cols, place, keep);
    case DType::kF16:
      return PackElements<uint16_t>(rows, lanes, cols, place, keep);
    case DType::kBF16:
      if (cols % 2 == 0) return PackElements<uint32_t>(rows, lanes, cols / 2, place, keep);
      return PackElements<uint16_t>(rows, lanes, cols, place,
                                    [](uint16_t element) { return uint32_t{element} << 16; });
    default:
      return PackBlockRows(from, rows, lanes, cols, place);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<PackedMatrix>> PackedMatrix::Pack(absl::Span<const WeightView> parts,
                                                                 Arena* arena, ForEach for_each) {
  auto matrix = absl::WrapUnique(new PackedMatrix(TotalRows(parts), parts[0].cols));
  int64_t next_row = 0;
  for (size_t i = 0; i < parts.size();) {
    const DType from = parts[i].dtype;
    Segment segment{.dtype = PackedTypeOf(parts[i]), .first_row = next_row};
    std::vector<const uint8_t*> rows;
    for (; i < parts.size() && parts[i].dtype == from; ++i) {
      for (int64_t row = 0; row < parts[i].rows; ++row) rows.push_back(parts[i].Row(row));
    }
    segment.rows = static_cast<int64_t>(rows.size());
    segment.panels = (segment.rows + kLanes - 1) / kLanes;
    segment.panel_bytes = kLanes * BytesFor(segment.dtype, matrix->cols());
    ASSIGN_OR_RETURN(segment.data, arena->Allocate(PanelsHeld(segment) * segment.panel_bytes));
    for_each(segment.panels, [&](int64_t panel) {
      const int64_t first = panel * kLanes;
      const int lanes = static_cast<int>(std::min<int64_t>(kLanes, segment.rows - first));
      PackPanel(from, rows.data() + first, lanes, matrix->cols(), PlaceOf(segment, first));
    });
    next_row += segment.rows;
    matrix->segments_.push_back(segment);
  }
  return matrix;
}

size_t PackedMatrix::bytes() const {
  size_t bytes = 0;
  for (const Segment& segment : segments_) bytes += PanelsHeld(segment) * segment.panel_bytes;
  return bytes;
}

void PackedMatrix::UnpackRow(int64_t row, float* out) const {
  const auto above = std::find_if(segments_.begin(), segments_.end(),
                                  [row](const Segment& s) { return row < s.first_row + s.rows; });
  const Segment& segment = *above;
  RowPlace place = PlaceOf(segment, row - segment.first_row);
  const Step step = StepOf(segment.dtype);
  const int32_t lane_bytes = step.bytes / kLanes;
  uint8_t block[kBlockBytesMax] = {};
  for (int64_t k = 0; k < cols(); k += step.inputs, place.step.first += place.stride) {
    if (IsQuantized(segment.dtype)) {
      UnpackBlock(segment.dtype, place.step, place.lane, block);
    } else {
      std::memcpy(block, place.step.first + place.lane * lane_bytes, lane_bytes);
    }
    Dequantize(segment.dtype, block, {out + k, static_cast<size_t>(step.inputs)});
  }
}

}  // namespace tandem
