#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "worker/model/dtype.h"
#include "worker/model/mapped_file.h"

namespace tandem {

// One tensor of a file, its extent already checked against the file's.
struct TensorInfo {
  std::string name;
  std::string type_name;       // as the file spells it
  std::optional<DType> dtype;  // none: a type that no weight may have
  std::vector<int64_t> shape;  // outermost first, so [rows, cols]
  absl::Span<const uint8_t> bytes;
};

// All tensors of a model, by the file's names for them, and the files that hold them.
struct TensorSet {
  std::vector<MappedFile> files;
  absl::flat_hash_map<std::string, TensorInfo> tensors;
};

// The product of the extents, or nothing when one is negative or the product exceeds 2^62.
inline std::optional<int64_t> ElementsOf(absl::Span<const int64_t> shape) {
  int64_t product = 1;
  for (const int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(product, extent, &product)) return std::nullopt;
  }
  return product > (int64_t{1} << 62) ? std::nullopt : std::optional<int64_t>(product);
}

}  // namespace tandem
