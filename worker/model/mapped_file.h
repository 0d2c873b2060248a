#pragma once
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace tandem {

// What tells one version of a file from the next without reading it.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t size = 0;  // bytes
  int64_t mtime_ns = 0;
};

// A regular file, mapped read-only.
//   life    the bytes stay where they are when this object moves, and end with it
//   errors  NotFound for no such file, InvalidArgument for a folder or a device. A file that
//           someone shortens while it is mapped kills the process on the next read (SIGBUS): a
//           model's files are replaced by renaming, never written in place.
//   threads readable from all
class MappedFile {
 public:
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  absl::Span<const uint8_t> bytes() const { return {data_, identity_.size}; }
  const FileIdentity& identity() const { return identity_; }
  const std::string& path() const { return path_; }

 private:
  MappedFile(std::string path, const uint8_t* data, FileIdentity identity)
      : path_(std::move(path)), data_(data), identity_(identity) {}

  std::string path_;
  const uint8_t* data_ = nullptr;
  FileIdentity identity_;
};

// The whole text of a file of at most `bytes_max`; NotFound when there is none.
absl::StatusOr<std::string> ReadFileUpTo(const std::string& path, size_t bytes_max);

// Where Tandem keeps what it may lose: $XDG_CACHE_HOME/tandem, else $HOME/.cache/tandem, else "".
std::string CacheFolder();

}  // namespace tandem
