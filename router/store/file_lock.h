#pragma once
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace tandem {

// Keeps other processes, and other parts of this one, from what a file stands for, until it is
// destroyed or the process ends, however that happens.
//   errors  FailedPrecondition somebody has the lock, with the process id; Unavailable the file
//           can't be made
class FileLock {
 public:
  static absl::StatusOr<std::unique_ptr<FileLock>> Take(const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace tandem
