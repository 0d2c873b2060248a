#include "worker/service/violations.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "base/grpc_status.h"

namespace tandem {

absl::Status Violations::ToStatus() const {
  constexpr size_t kMost = 16;  // told in one error
  if (found_.empty()) return absl::OkStatus();
  const size_t told = std::min(found_.size(), kMost);
  std::vector<std::string> lines;
  for (size_t i = 0; i < told; ++i) {
    lines.push_back(absl::StrCat(found_[i].first, ": ", found_[i].second));
  }
  if (told < found_.size()) lines.push_back(absl::StrCat(found_.size() - told, " more"));
  absl::Status status = absl::InvalidArgumentError(absl::StrJoin(lines, "; "));
  for (size_t i = 0; i < told; ++i) {
    status = WithFieldViolation(std::move(status), found_[i].first, found_[i].second);
  }
  return status;
}

}  // namespace tandem
