#include "worker/model/json.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {
namespace {

using nlohmann::json;

absl::Status Missing(absl::string_view key) {
  return absl::InvalidArgumentError(absl::StrCat("\"", key, "\" is missing"));
}

absl::Status WrongType(absl::string_view key, absl::string_view want, const json& found) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", key, "\": want ", want, ", found ", found.type_name()));
}

}  // namespace

absl::StatusOr<json> ParseJson(absl::string_view text, int depth_max) {
  bool too_deep = false;
  const auto limit_depth = [&](int depth, json::parse_event_t event, json&) {
    const bool opens =
        event == json::parse_event_t::object_start || event == json::parse_event_t::array_start;
    if (opens && depth >= depth_max) too_deep = true;
    return !too_deep;
  };
  json parsed = json::parse(text.begin(), text.end(), limit_depth, /*allow_exceptions=*/false);
  if (too_deep) {
    return absl::InvalidArgumentError(
        absl::StrCat("JSON is nested deeper than ", depth_max, " levels"));
  }
  if (parsed.is_discarded()) return absl::InvalidArgumentError("not valid JSON");
  return parsed;
}

const json* JsonFields::Find(absl::string_view key) const {
  if (!object_.is_object()) return nullptr;
  const auto it = object_.find(std::string(key));
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

absl::StatusOr<double> JsonFields::Number(absl::string_view key, Range range) const {
  const json* found = Find(key);
  if (found == nullptr) return Missing(key);
  if (!found->is_number()) return WrongType(key, "a number", *found);
  const double value = found->get<double>();
  if (!(value >= range.min && value <= range.max)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", key, "\": want a number in [", range.min,
                                                   ", ", range.max, "], found ", value));
  }
  return value;
}

absl::StatusOr<double> JsonFields::NumberOr(absl::string_view key, double fallback,
                                            Range range) const {
  if (Find(key) == nullptr) return fallback;
  return Number(key, range);
}

absl::StatusOr<int32_t> JsonFields::Int(absl::string_view key, Range range) const {
  range.min = std::max<double>(range.min, std::numeric_limits<int32_t>::min());
  range.max = std::min<double>(range.max, std::numeric_limits<int32_t>::max());
  ASSIGN_OR_RETURN(const double value, Number(key, range));
  if (value != std::floor(value)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", key, "\": want a whole number, found ", value));
  }
  return static_cast<int32_t>(value);
}

absl::StatusOr<int32_t> JsonFields::IntOr(absl::string_view key, int32_t fallback,
                                          Range range) const {
  if (Find(key) == nullptr) return fallback;
  return Int(key, range);
}

absl::StatusOr<bool> JsonFields::BoolOr(absl::string_view key, bool fallback) const {
  const json* found = Find(key);
  if (found == nullptr) return fallback;
  if (!found->is_boolean()) return WrongType(key, "true or false", *found);
  return found->get<bool>();
}

absl::StatusOr<std::string> JsonFields::StringOr(absl::string_view key,
                                                 absl::string_view fallback) const {
  const json* found = Find(key);
  if (found == nullptr) return std::string(fallback);
  if (!found->is_string()) return WrongType(key, "a string", *found);
  return found->get<std::string>();
}

}  // namespace tandem
