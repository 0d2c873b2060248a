#include "router/store/file_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tandem {

absl::StatusOr<std::unique_ptr<FileLock>> FileLock::Take(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return absl::UnavailableError(absl::StrCat(path, ": ", strerror(errno)));
  auto lock = std::unique_ptr<FileLock>(new FileLock(fd));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) {
      return absl::UnavailableError(absl::StrCat(path, ": ", strerror(errno)));
    }
    std::array<char, 32> holder{};
    const ssize_t length = pread(fd, holder.data(), holder.size(), 0);
    return absl::FailedPreconditionError(absl::StrCat(
        path, " is held by process ",
        absl::StripSuffix(absl::string_view(holder.data(), length < 0 ? 0 : length), "\n"),
        ": a store in a file serves one router; several need PostgreSQL"));
  }
  // Who holds it is for people only, so that failing to write it down is no error.
  const std::string pid = absl::StrCat(getpid(), "\n");
  if (ftruncate(fd, 0) == 0) {
    const ssize_t ignored = pwrite(fd, pid.data(), pid.size(), 0);
    static_cast<void>(ignored);
  }
  return lock;
}

FileLock::~FileLock() { close(fd_); }

}  // namespace tandem
