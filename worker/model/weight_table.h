#pragma once
#include <deque>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/model/families.h"
#include "worker/model/spec.h"
#include "worker/model/tensor_set.h"
#include "worker/model/weight_view.h"

namespace tandem {

enum class ModelFormat : uint8_t { kSafetensors, kGguf };

inline constexpr int kNoLayer = -1;

struct NamedWeight {
  absl::string_view name;  // a rule's
  int layer = kNoLayer;
  WeightView view;
};

// The weights of a model by Tandem's names, each checked against the spec.
//   errors  of Bind: InvalidArgument that names the tensor (in the file's spelling) for one that is
//           missing, has another shape ("want [576, 576], file has [576, 192]") or that this spec
//           has no use for; Unimplemented for a type without a DType
//   life    views point into the TensorSet's files, and into this for reordered biases
class WeightTable {
 public:
  static absl::StatusOr<WeightTable> Bind(const ModelSpec& spec, const Family& family,
                                          ModelFormat format, const TensorSet& tensors);

  // NotFound for a weight that this spec does not have. A tied lm_head is the embedding.
  absl::StatusOr<WeightView> Find(absl::string_view name, int layer) const;
  // In the order of the family's table, layer by layer.
  const std::vector<NamedWeight>& all() const { return weights_; }

 private:
  WeightView Reordered(WeightView vector);

  std::vector<NamedWeight> weights_;
  absl::flat_hash_map<std::pair<absl::string_view, int>, size_t> index_;  // into weights_
  std::deque<std::vector<uint8_t>> owned_;  // biases brought into the model's order
};

}  // namespace tandem
