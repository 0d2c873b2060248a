#pragma once
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/request_limits.h"

namespace tandem {

// Collects what is wrong with a request, so that its sender learns all of it at once.
//   units   `field` is a path such as "sampling.temperature"
//   threads one at a time
class Violations {
 public:
  void Add(std::string field, std::string why) {
    if (++count_ <= kMost) found_.emplace_back(std::move(field), std::move(why));
  }
  void Check(bool ok, absl::string_view field, absl::string_view why) {
    if (!ok) Add(std::string(field), std::string(why));
  }
  // NaN is in no range.
  void Range(absl::string_view field, double value, const ValueRange& range);
  void Bytes(absl::string_view field, size_t bytes, size_t min, size_t max);
  // False when there are too many: then nobody should look at each of them.
  bool Count(absl::string_view field, size_t entries, size_t max);

  // OK when nothing was added, else InvalidArgument with a BadRequest that has the first kMost.
  absl::Status ToStatus() const;

 private:
  static constexpr size_t kMost = 16;  // told in one error

  std::vector<std::pair<std::string, std::string>> found_;  // field, why
  size_t count_ = 0;                                        // of all that were added
};

}  // namespace tandem
