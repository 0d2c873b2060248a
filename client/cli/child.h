#pragma once
#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem::cli {

// The path of a program that was built beside this one. NotFound names where it was looked for.
absl::StatusOr<std::string> ProgramBeside(const std::string& name);

// Starts a child whose stdin is empty and whose stdout and stderr are this process's. It has its
// own process group, so that Ctrl-C reaches this process alone; if this process dies, it gets
// SIGTERM. Must be called while there is one thread.
absl::StatusOr<pid_t> StartChild(const std::vector<std::string>& command);

struct ChildEnd {
  pid_t pid = 0;
  int wait_status = 0;
  // "ended with status 1", "was killed by signal 9 (Killed)"
  std::string ToString() const;
};

// A child that has ended and was not told of yet; never waits.
std::optional<ChildEnd> NextEndedChild();

}  // namespace tandem::cli
