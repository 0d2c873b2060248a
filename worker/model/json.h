#pragma once
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem {

inline constexpr int kJsonDepthMax = 64;

// Parses text from a model's folder. Nesting deeper than `depth_max` is refused; the size is the
// caller's to limit.
absl::StatusOr<nlohmann::json> ParseJson(absl::string_view text, int depth_max = kJsonDepthMax);

// Typed access to the members of one JSON object. A null member counts as absent. Errors name the
// key and what was found, never the whole object.
//   life  the object must outlive this
class JsonFields {
 public:
  explicit JsonFields(const nlohmann::json& object) : object_(object) {}

  struct Range {
    double min = -std::numeric_limits<double>::max();
    double max = std::numeric_limits<double>::max();
  };

  // nullptr when the member is absent or null.
  const nlohmann::json* Find(absl::string_view key) const;
  absl::StatusOr<int32_t> Int(absl::string_view key, Range range) const;
  absl::StatusOr<int32_t> IntOr(absl::string_view key, int32_t fallback, Range range) const;
  absl::StatusOr<double> Number(absl::string_view key, Range range) const;
  absl::StatusOr<double> NumberOr(absl::string_view key, double fallback, Range range) const;
  absl::StatusOr<bool> BoolOr(absl::string_view key, bool fallback) const;
  absl::StatusOr<std::string> StringOr(absl::string_view key, absl::string_view fallback) const;

 private:
  const nlohmann::json& object_;
};

}  // namespace tandem
