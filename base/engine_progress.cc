#include "base/engine_progress.h"

#include "absl/strings/str_cat.h"

namespace tandem {

absl::Status CheckProgress(const EngineProgress& progress, absl::Duration limit) {
  if (limit == absl::ZeroDuration() || progress.age < limit) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("the engine has been at step ", progress.step_number + 1, " for ",
                   absl::FormatDuration(absl::Trunc(progress.age, absl::Milliseconds(1)))));
}

}  // namespace tandem
