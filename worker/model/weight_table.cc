#include "worker/model/weight_table.h"

#include <algorithm>
#include <cstring>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/status.h"

namespace tandem {
namespace {

constexpr size_t kNamesInErrorMax = 8;

std::string FileName(const WeightRule& rule, ModelFormat format, int layer) {
  const absl::string_view pattern = format == ModelFormat::kGguf ? rule.gguf : rule.hf;
  return absl::StrReplaceAll(pattern, {{"{}", absl::StrCat(layer)}});
}

std::string Bracketed(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::StatusOr<WeightView> CheckedView(const ModelSpec& spec, const WeightRule& rule,
                                       const TensorInfo& tensor) {
  const int64_t rows = ExtentOf(spec, rule.rows);
  const int64_t cols = ExtentOf(spec, rule.cols);
  const bool is_vector = rule.rows == Extent::kOne;
  const std::vector<int64_t> want =
      is_vector ? std::vector<int64_t>{cols} : std::vector<int64_t>{rows, cols};
  if (tensor.shape != want) {
    return absl::InvalidArgumentError(absl::StrCat("tensor \"", tensor.name, "\": want ",
                                                   Bracketed(want), ", file has ",
                                                   Bracketed(tensor.shape)));
  }
  if (!tensor.dtype || (is_vector && IsQuantized(*tensor.dtype))) {
    const absl::Span<const DType> supported =
        absl::MakeSpan(kAllDTypes).subspan(0, is_vector ? 3 : std::size(kAllDTypes));
    const auto append_name = [](std::string* out, DType dtype) {
      absl::StrAppend(out, NameOf(dtype));
    };
    return absl::UnimplementedError(
        absl::StrCat("tensor \"", tensor.name, "\": its type is ", tensor.type_name,
                     "; supported: ", absl::StrJoin(supported, ", ", append_name)));
  }
  return WeightView{.name = tensor.name,
                    .dtype = *tensor.dtype,
                    .rows = rows,
                    .cols = cols,
                    .data = tensor.bytes.data(),
                    .bytes = tensor.bytes.size()};
}

// Row i of a head's first half is stored at 2i, row i of its second half at 2i + 1.
std::vector<int32_t> RopePairOrder(int64_t rows, int32_t head_dim) {
  std::vector<int32_t> order(rows);
  const int32_t half = head_dim / 2;
  for (int32_t row = 0; row < rows; ++row) {
    const int32_t in_head = row % head_dim;
    order[row] = row - in_head + 2 * (in_head % half) + in_head / half;
  }
  return order;
}

// Tensors that some files carry and no forward pass needs.
bool IsIgnored(absl::string_view name, const ModelSpec& spec, ModelFormat format) {
  if (format == ModelFormat::kGguf) return name == "rope_freqs.weight";  // read with the spec
  if (absl::EndsWith(name, ".rotary_emb.inv_freq")) return true;
  return name == "lm_head.weight" && spec.tied_embeddings;
}

std::string FirstNames(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  const size_t shown = std::min(names.size(), kNamesInErrorMax);
  const std::string list =
      absl::StrJoin(names.begin(), names.begin() + static_cast<ptrdiff_t>(shown), ", ");
  if (shown == names.size()) return list;
  return absl::StrCat(list, " and ", names.size() - shown, " more");
}

absl::Status CheckNothingElse(const ModelSpec& spec, ModelFormat format, const TensorSet& tensors,
                              const std::vector<NamedWeight>& used) {
  absl::flat_hash_set<absl::string_view> names;
  for (const NamedWeight& weight : used) names.insert(weight.view.name);
  std::vector<std::string> unused;
  for (const auto& [name, tensor] : tensors.tensors) {
    if (!names.contains(name) && !IsIgnored(name, spec, format)) unused.push_back(name);
  }
  if (unused.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the file has tensors that ", spec.architecture,
                   " with this configuration does not use: ", FirstNames(std::move(unused))));
}

}  // namespace

absl::StatusOr<WeightTable> WeightTable::Bind(const ModelSpec& spec, const Family& family,
                                              ModelFormat format, const TensorSet& tensors) {
  WeightTable table;
  std::vector<std::string> missing;
  for (const WeightRule& rule : family.weights) {
    if (!HasWeight(spec, rule)) continue;
    const int layers = rule.per_layer() ? spec.layers : 1;
    for (int layer = 0; layer < layers; ++layer) {
      const auto found = tensors.tensors.find(FileName(rule, format, layer));
      if (found == tensors.tensors.end()) {
        missing.push_back(FileName(rule, format, layer));
        continue;
      }
      ASSIGN_OR_RETURN(WeightView view, CheckedView(spec, rule, found->second));
      const bool pairs = format == ModelFormat::kGguf && family.gguf_rope_pairs;
      if (pairs && rule.rotated == Rotated::kYes) {
        view.row_order = RopePairOrder(view.rows == 1 ? view.cols : view.rows, spec.head_dim);
        if (view.rows == 1) view = table.Reordered(std::move(view));
      }
      const int key_layer = rule.per_layer() ? layer : kNoLayer;
      table.index_.emplace(std::pair(rule.name, key_layer), table.weights_.size());
      table.weights_.push_back({rule.name, key_layer, std::move(view)});
    }
  }
  if (!missing.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the file lacks tensors: ", FirstNames(std::move(missing))));
  }
  RETURN_IF_ERROR(CheckNothingElse(spec, format, tensors, table.weights_));
  return table;
}

WeightView WeightTable::Reordered(WeightView vector) {
  const size_t element = vector.bytes / vector.cols;
  std::vector<uint8_t>& copy = owned_.emplace_back(vector.bytes);
  for (int64_t i = 0; i < vector.cols; ++i) {
    std::memcpy(copy.data() + i * element, vector.data + vector.row_order[i] * element, element);
  }
  vector.data = copy.data();
  vector.row_order.clear();
  return vector;
}

absl::StatusOr<WeightView> WeightTable::Find(absl::string_view name, int layer) const {
  auto found = index_.find({name, layer});
  if (found == index_.end() && name == "lm_head") found = index_.find({"embed", layer});
  if (found != index_.end()) return weights_[found->second].view;
  return absl::NotFoundError(
      absl::StrCat("this model has no weight \"", name, "\" of layer ", layer));
}

}  // namespace tandem
