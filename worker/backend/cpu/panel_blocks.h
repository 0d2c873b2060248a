#pragma once
#include <cstddef>
#include <cstdint>

#include "worker/backend/cpu/kernels.h"
#include "worker/model/dtype.h"

// Moves quantised blocks between their files' order and a panel's (panel_formats.h). All bits of a
// block are kept.
namespace tandem {

// A panel's step of blocks. Its rows of 16 units alternate with those of the `width` panels of its
// group.
struct BlockStep {
  uint8_t* first = nullptr;  // of the group
  int panel = 0, width = 1;

  uint8_t* Row(size_t offset, size_t bytes) const { return first + offset * width + panel * bytes; }
};

// Writes one stored block of each of up to 16 rows; further lanes become zeros.
void PackBlocks(DType dtype, const uint8_t* const* blocks, int lanes, const BlockStep& step);
// The reverse, of one lane.
void UnpackBlock(DType dtype, const BlockStep& step, int lane, uint8_t* block);

}  // namespace tandem
