#pragma once
#include <cstdio>
#include <cstdlib>

// Aborts with file, line and the broken promise when `condition` is false, in every build.
// For our own bugs only: input from a client, a peer or a file gets an absl::Status instead.
#define TANDEM_CHECK(condition, message) \
  if (condition) {                       \
  } else /* NOLINT */                    \
    ::tandem::CheckFailed(__FILE__, __LINE__, #condition, message)

namespace tandem {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition,
                                     const char* message) {
  std::fprintf(stderr, "%s:%d: check failed: %s (%s)\n", file, line, condition, message);
  std::abort();
}

}  // namespace tandem
