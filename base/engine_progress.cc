#include "base/engine_progress.h"

#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

// Times the limit, for the first step: it reads the weights from their file, and how many rows take
// how long is not known yet.
constexpr int kFirstStep = 10;

}  // namespace

absl::Status CheckProgress(const EngineProgress& progress, absl::Duration limit) {
  const absl::Duration allowed = progress.step_number == 0 ? kFirstStep * limit : limit;
  if (limit == absl::ZeroDuration() || progress.age < allowed) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("the engine has been at step ", progress.step_number + 1, " for ",
                   absl::FormatDuration(absl::Trunc(progress.age, absl::Milliseconds(1)))));
}

}  // namespace tandem
