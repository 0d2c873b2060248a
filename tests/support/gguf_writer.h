#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tandem {

// Builds the bytes of a GGUF file field by field, so that a test can make any field wrong.
class GgufWriter {
 public:
  enum Type : uint32_t { kUint32 = 4, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9 };

  explicit GgufWriter(uint32_t version = 3) : version_(version) {}

  template <typename T>
  GgufWriter& Raw(T value) {
    const auto* bytes = reinterpret_cast<const char*>(&value);
    fields_.append(bytes, sizeof(T));
    return *this;
  }
  GgufWriter& String(absl::string_view text) {
    Raw<uint64_t>(text.size());
    fields_.append(text.data(), text.size());
    return *this;
  }

  // A key and its type; the value's bytes follow by Raw or String.
  GgufWriter& Key(absl::string_view key, uint32_t type) {
    ++metadata_;
    return String(key).Raw(type);
  }
  GgufWriter& Int(absl::string_view key, uint32_t value) { return Key(key, kUint32).Raw(value); }
  GgufWriter& Float(absl::string_view key, float value) { return Key(key, kFloat32).Raw(value); }
  GgufWriter& Text(absl::string_view key, absl::string_view value) {
    return Key(key, kString).String(value);
  }
  GgufWriter& Texts(absl::string_view key, const std::vector<std::string>& values) {
    Key(key, kArray).Raw<uint32_t>(kString).Raw<uint64_t>(values.size());
    for (const std::string& value : values) String(value);
    return *this;
  }

  // `shape` as the file has it: innermost first. All metadata comes before the first tensor.
  GgufWriter& Tensor(absl::string_view name, const std::vector<uint64_t>& shape, uint32_t type,
                     uint64_t offset) {
    ++tensors_;
    String(name).Raw(static_cast<uint32_t>(shape.size()));
    for (const uint64_t extent : shape) Raw(extent);
    return Raw(type).Raw(offset);
  }

  // The file with `data_bytes` bytes of tensor data, all zero, after padding to 32 bytes.
  std::vector<uint8_t> File(size_t data_bytes) const {
    std::string file = "GGUF";
    const auto append = [&file](auto value) {
      file.append(reinterpret_cast<const char*>(&value), sizeof(value));
    };
    append(version_);
    append(tensors_);
    append(metadata_);
    file += fields_;
    file.resize((file.size() + 31) / 32 * 32 + data_bytes);
    return {file.begin(), file.end()};
  }

  uint64_t tensors_ = 0;
  uint64_t metadata_ = 0;

 private:
  const uint32_t version_;
  std::string fields_;
};

}  // namespace tandem
