#pragma once
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tandem {

// The end of an "unknown name" message: `did you mean "threads"?` when one of `names` is a likely
// misspelling (few edits away), else `it can be a, b or c`.
std::string Suggest(absl::string_view name, const std::vector<std::string>& names);

}  // namespace tandem
