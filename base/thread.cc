#include "base/thread.h"

#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tandem {

absl::StatusOr<std::thread> StartThread(absl::string_view purpose, std::function<void()> run) {
  try {
    return std::thread(std::move(run));
  } catch (const std::system_error& error) {
    return absl::UnavailableError(
        absl::StrCat("no thread can be started for ", purpose, ": ", error.what()));
  }
}

}  // namespace tandem
