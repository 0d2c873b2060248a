#pragma once
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/model/dtype.h"
#include "worker/model/quantize.h"
#include "worker/model/spec.h"
#include "worker/model/weight_view.h"

namespace tandem {

// Qwen3-0.6B: 28 layers of 1024, 16 and 8 heads of 128, 151,936 tokens, tied.
ModelSpec BenchSpec();

// Random weights of BenchSpec in memory. All of them lie in one pool as large as the embedding, so
// a float32 model needs no more than the decoder's own copy and a quarter.
class BenchModel {
 public:
  explicit BenchModel(DType dtype);  // kF32, kF16 or kBF16
  absl::StatusOr<WeightView> Find(absl::string_view name, int layer) const;

 private:
  const DType dtype_;
  std::vector<uint8_t> pool_;
  std::vector<float> ones_;  // norms
};

// What one row costs.
struct BenchWork {
  double layer_macs = 0, head_macs = 0;  // of the linear layers
  double attention_macs_per_key = 0;
  double weight_bytes = 0;  // that decoding reads, once for the whole batch
  double kv_bytes_per_token = 0;
};
BenchWork WorkOf(const ModelSpec& spec, DType dtype, WeightScheme scheme);

}  // namespace tandem
