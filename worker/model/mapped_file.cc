#include "worker/model/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {
namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  const int fd_;
};

absl::StatusOr<FileIdentity> IdentityOf(const FileDescriptor& file, const std::string& path) {
  if (file.get() < 0) return absl::ErrnoToStatus(errno, path);
  struct stat info = {};
  if (fstat(file.get(), &info) != 0) return absl::ErrnoToStatus(errno, path);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  return FileIdentity{.device = info.st_dev,
                      .inode = info.st_ino,
                      .size = static_cast<uint64_t>(info.st_size),
                      .mtime_ns = info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec};
}

}  // namespace

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  ASSIGN_OR_RETURN(const FileIdentity identity, IdentityOf(file, path));
  if (identity.size == 0) return MappedFile(path, nullptr, identity);
  void* data = mmap(nullptr, identity.size, PROT_READ, MAP_SHARED, file.get(), 0);
  if (data == MAP_FAILED) return absl::ErrnoToStatus(errno, path);
  return MappedFile(path, static_cast<const uint8_t*>(data), identity);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      identity_(std::exchange(other.identity_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(identity_, other.identity_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), identity_.size);
}

absl::StatusOr<std::string> ReadFileUpTo(const std::string& path, size_t bytes_max) {
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  ASSIGN_OR_RETURN(const FileIdentity identity, IdentityOf(file, path));
  if (identity.size > bytes_max) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": the file has ", identity.size, " bytes; the limit is ", bytes_max));
  }
  std::string text(identity.size, '\0');
  size_t have = 0;
  while (have < text.size()) {
    const ssize_t got = read(file.get(), text.data() + have, text.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, path);
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  text.resize(have);
  return text;
}

std::string CacheFolder() {
  const char* xdg = std::getenv("XDG_CACHE_HOME");
  if (xdg != nullptr && *xdg != '\0') return absl::StrCat(xdg, "/tandem");
  const char* home = std::getenv("HOME");
  return home != nullptr && *home != '\0' ? absl::StrCat(home, "/.cache/tandem") : "";
}

}  // namespace tandem
