#pragma once
#include <functional>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem {

// Starts a thread where one more may be one too many: std::thread throws, and would end the
// process. `purpose` says in the error what the thread was for, as in "a KV connection".
//   errors  Unavailable the system has no thread left to give
absl::StatusOr<std::thread> StartThread(absl::string_view purpose, std::function<void()> run);

}  // namespace tandem
