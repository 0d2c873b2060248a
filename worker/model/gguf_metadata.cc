#include <limits>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/model/gguf.h"

namespace tandem {
namespace {

absl::Status WrongType(absl::string_view key, absl::string_view want) {
  return absl::InvalidArgumentError(absl::StrCat("metadata ", key, ": want ", want));
}

}  // namespace

template <typename T>
absl::StatusOr<T> GgufMetadata::Get(absl::string_view key, T fallback,
                                    absl::string_view want) const {
  const auto it = values_.find(key);
  if (it == values_.end()) return fallback;
  const T* value = std::get_if<T>(&it->second);
  if (value == nullptr) return WrongType(key, want);
  return *value;
}

absl::StatusOr<int32_t> GgufMetadata::Int(absl::string_view key) const {
  if (!Has(key)) return absl::InvalidArgumentError(absl::StrCat("metadata ", key, " is missing"));
  return IntOr(key, 0);
}

absl::StatusOr<int32_t> GgufMetadata::IntOr(absl::string_view key, int32_t fallback) const {
  const auto it = values_.find(key);
  if (it == values_.end()) return fallback;
  constexpr uint64_t kMax = std::numeric_limits<int32_t>::max();
  if (const auto* value = std::get_if<uint64_t>(&it->second); value != nullptr && *value <= kMax) {
    return static_cast<int32_t>(*value);
  }
  if (const auto* value = std::get_if<int64_t>(&it->second);
      value != nullptr && *value >= 0 && static_cast<uint64_t>(*value) <= kMax) {
    return static_cast<int32_t>(*value);
  }
  return WrongType(key, "one whole number in [0, 2^31)");
}

absl::StatusOr<double> GgufMetadata::NumberOr(absl::string_view key, double fallback) const {
  return Get<double>(key, fallback, "a float");
}

absl::StatusOr<bool> GgufMetadata::BoolOr(absl::string_view key, bool fallback) const {
  return Get<bool>(key, fallback, "a bool");
}

absl::StatusOr<absl::string_view> GgufMetadata::StringOr(absl::string_view key,
                                                         absl::string_view fallback) const {
  return Get<absl::string_view>(key, fallback, "a string");
}

absl::StatusOr<std::vector<absl::string_view>> GgufMetadata::Strings(absl::string_view key) const {
  return Get<std::vector<absl::string_view>>(key, {}, "an array of strings");
}

absl::StatusOr<std::vector<int64_t>> GgufMetadata::Ints(absl::string_view key) const {
  return Get<std::vector<int64_t>>(key, {}, "an array of whole numbers");
}

absl::StatusOr<std::vector<double>> GgufMetadata::Numbers(absl::string_view key) const {
  return Get<std::vector<double>>(key, {}, "an array of floats");
}

}  // namespace tandem
