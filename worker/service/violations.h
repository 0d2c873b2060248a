#pragma once
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tandem {

// Collects what is wrong with a request, so that its sender learns all of it at once.
class Violations {
 public:
  void Add(std::string field, std::string why) {
    found_.emplace_back(std::move(field), std::move(why));
  }
  // NaN is in no range.
  void Range(absl::string_view field, double value, double low, double high) {
    if (value >= low && value <= high) return;
    Add(std::string(field), absl::StrCat("it is ", value, ", want ", low, " to ", high));
  }
  void Above(absl::string_view field, double value, double low, double high) {
    if (value > low && value <= high) return;
    Add(std::string(field),
        absl::StrCat("it is ", value, ", want above ", low, " and at most ", high));
  }
  void Length(absl::string_view field, size_t length, size_t low, size_t high) {
    if (length >= low && length <= high) return;
    Add(std::string(field), absl::StrCat("its length is ", length, ", want ", low, " to ", high));
  }

  // OK when nothing was added, else InvalidArgument with a BadRequest.
  absl::Status ToStatus() const;

 private:
  std::vector<std::pair<std::string, std::string>> found_;  // field, why
};

}  // namespace tandem
