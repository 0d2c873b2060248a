#pragma once
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/model/weight_view.h"

// What the CPU backends share of PackMatrix and PackVector.
namespace tandem {

int64_t TotalRows(absl::Span<const WeightView> parts);

// InvalidArgument, naming the weight, for no parts, differing cols, a row that is not a whole
// number of blocks, or bytes that do not match the shape.
absl::Status CheckMatrixParts(absl::Span<const WeightView> parts);

// The concatenated values of one-row weights, as float32; checks as CheckMatrixParts.
absl::StatusOr<std::vector<float>> VectorValues(absl::Span<const WeightView> parts);

}  // namespace tandem
