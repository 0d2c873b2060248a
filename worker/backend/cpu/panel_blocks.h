#pragma once
#include <cstddef>
#include <cstdint>

#include "worker/model/dtype.h"

// Moves quantised blocks between their files' order and a panel's (panel_formats.h). All bits of a
// block are kept.
namespace tandem {

// Writes one stored block of one row into its lane of a panel's step.
void PackBlock(DType dtype, const uint8_t* block, int lane, uint8_t* step);
// The reverse.
void UnpackBlock(DType dtype, const uint8_t* step, int lane, uint8_t* block);

}  // namespace tandem
