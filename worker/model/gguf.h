#pragma once
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/model/tensor_set.h"

namespace tandem {

using GgufValue =
    std::variant<bool, int64_t, uint64_t, double, absl::string_view, std::vector<absl::string_view>,
                 std::vector<int64_t>, std::vector<double>>;

// The metadata of a GGUF file: typed access by key. The plain getters say InvalidArgument when the
// key is absent or of another type; the ...Or getters take the fallback when it is absent.
//   life  strings point into the file's bytes
class GgufMetadata {
 public:
  void Add(std::string key, GgufValue value) { values_.emplace(std::move(key), std::move(value)); }
  bool Has(absl::string_view key) const { return values_.contains(key); }
  size_t size() const { return values_.size(); }

  absl::StatusOr<int32_t> Int(absl::string_view key) const;  // any integer type, 0 .. 2^31 - 1
  absl::StatusOr<int32_t> IntOr(absl::string_view key, int32_t fallback) const;
  absl::StatusOr<double> NumberOr(absl::string_view key, double fallback) const;
  absl::StatusOr<bool> BoolOr(absl::string_view key, bool fallback) const;
  absl::StatusOr<absl::string_view> StringOr(absl::string_view key,
                                             absl::string_view fallback) const;
  // Empty when the key is absent.
  absl::StatusOr<std::vector<absl::string_view>> Strings(absl::string_view key) const;
  absl::StatusOr<std::vector<int64_t>> Ints(absl::string_view key) const;
  absl::StatusOr<std::vector<double>> Numbers(absl::string_view key) const;

 private:
  template <typename T>
  absl::StatusOr<T> Get(absl::string_view key, T fallback, absl::string_view want) const;

  absl::flat_hash_map<std::string, GgufValue> values_;
};

struct Gguf {
  uint32_t version = 0;
  GgufMetadata metadata;
  std::vector<TensorInfo> tensors;
};

// Whether a file begins as every GGUF file does.
bool BeginsAsGguf(absl::Span<const uint8_t> file);

// Reads a GGUF file of version 2 or 3, little-endian, of one part.
//   errors  InvalidArgument, naming the key or the tensor, for a file that is cut off, counts and
//           strings beyond the file's size or the limits below, nested arrays, duplicates, offsets
//           that are unaligned, overlap or leave the file. Unimplemented for version 1, big-endian
//           files and tensor types without a DType. No content makes this read outside `file`.
//   life    everything points into `file`
absl::StatusOr<Gguf> ParseGguf(absl::Span<const uint8_t> file);

}  // namespace tandem
