#pragma once
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/model/dtype.h"
#include "worker/model/weight_view.h"

namespace tandem {

// What loading does to weights that are stored as floats. Groups of 32 inputs of one output share a
// scale that is a half, and no offset, which is ggml's Q8_0 and Q4_0.
enum class WeightScheme : uint8_t {
  kStored,  // nothing
  kInt8,    // 8 bits
  kInt4     // 4 bits, and 8 in the embedding and the head, where an error reaches every token
};

// "", "int8" or "int4": how a numerics class spells it.
absl::string_view NameOf(WeightScheme scheme);

// The type that a scheme keeps such a weight in: its own where that is quantised already, or where
// its rows are not whole groups.
DType TypeUnder(WeightScheme scheme, absl::string_view weight_name, const WeightView& view);

// A weight in another type. `view` points into `blocks`, rows lie as the file has them.
struct QuantizedWeight {
  std::vector<uint8_t> blocks;
  WeightView view;
};

// Q8_0: each code is the nearest to value / scale, the scale the largest magnitude / 127. Q4_0: the
// same with the value of the largest magnitude as code -8. So no value is off by more than half its
// group's scale, but for those within half a scale of Q4_0's missing code 8: they are off by up to
// one. A group without a value of 4e-6 (8 bits) or 3e-7 (4 bits) has a scale below a half's least,
// and becomes zeros.
//   errors  InvalidArgument that names the weight for values that are not finite
//   threads rows are shared out among so many, for the time of the call
absl::StatusOr<QuantizedWeight> Quantize(const WeightView& weight, DType to, int threads = 1);

// The nearest IEEE half, ties to even; beyond its range the largest one.
uint16_t NearestHalf(float value);

}  // namespace tandem
