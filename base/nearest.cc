#include "base/nearest.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

// Levenshtein distance, in insertions, deletions and replacements of a byte.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string Suggest(absl::string_view name, const std::vector<std::string>& names) {
  constexpr size_t kLongestName = 128;  // a longer one is no misspelling of ours
  size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
  absl::string_view best;
  if (name.size() <= kLongestName) {
    for (const std::string& candidate : names) {
      const size_t distance = EditDistance(name, candidate);
      if (distance < best_distance) {
        best_distance = distance;
        best = candidate;
      }
    }
  }
  if (!best.empty()) return absl::StrCat("did you mean \"", best, "\"?");
  if (names.empty()) return "nothing can be named here";
  std::string list = names.front();
  for (size_t i = 1; i < names.size(); ++i) {
    absl::StrAppend(&list, i + 1 == names.size() ? " or " : ", ", names[i]);
  }
  return absl::StrCat("it can be ", list);
}

}  // namespace tandem
