#include "kvstore/transport/shm_window.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

uint64_t RingBytesFor(uint64_t window_bytes) {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return (window_bytes + page - 1) / page * page;
}

}  // namespace

absl::StatusOr<ShmWindow> ShmWindow::Create(uint64_t window_bytes) {
  const uint64_t ring_bytes = RingBytesFor(window_bytes);
  Socket file(memfd_create("tandem-kv-window", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.open()) return ErrnoStatus(errno, "memory file of a KV window");
  if (ftruncate(file.fd(), static_cast<off_t>(ring_bytes)) != 0 ||
      fcntl(file.fd(), F_ADD_SEALS, kSeals) != 0) {
    return ErrnoStatus(errno, absl::StrCat("KV window of ", ring_bytes, " bytes"));
  }
  return Map(std::move(file), ring_bytes, PROT_READ);
}

absl::StatusOr<ShmWindow> ShmWindow::Open(Socket file, uint64_t window_bytes) {
  const uint64_t ring_bytes = RingBytesFor(window_bytes);
  const int seals = fcntl(file.fd(), F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    return absl::DataLossError("the peer's KV window is no memory file of a sealed size");
  }
  struct stat found{};
  if (fstat(file.fd(), &found) != 0) return ErrnoStatus(errno, "KV window");
  if (static_cast<uint64_t>(found.st_size) != ring_bytes) {
    return absl::DataLossError(
        absl::StrCat("the peer's KV window has ", found.st_size, " bytes, want ", ring_bytes));
  }
  return Map(std::move(file), ring_bytes, PROT_READ | PROT_WRITE);
}

absl::StatusOr<ShmWindow> ShmWindow::Map(Socket file, uint64_t ring_bytes, int protection) {
  void* base = mmap(nullptr, 2 * ring_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return ErrnoStatus(errno, "address space of a KV window");
  ShmWindow window(static_cast<uint8_t*>(base), ring_bytes, std::move(file));
  for (const uint64_t at : {uint64_t{0}, ring_bytes}) {
    if (mmap(window.base_ + at, ring_bytes, protection, MAP_SHARED | MAP_FIXED, window.file_.fd(),
             0) == MAP_FAILED) {
      return ErrnoStatus(errno, absl::StrCat("KV window of ", ring_bytes, " bytes"));
    }
  }
  return window;
}

ShmWindow::ShmWindow(uint8_t* base, uint64_t ring_bytes, Socket file)
    : base_(base), ring_bytes_(ring_bytes), file_(std::move(file)) {}

ShmWindow::ShmWindow(ShmWindow&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)),
      ring_bytes_(other.ring_bytes_),
      file_(std::move(other.file_)) {}

ShmWindow::~ShmWindow() {
  if (base_ != nullptr) (void)munmap(base_, 2 * ring_bytes_);
}

absl::Span<const uint8_t> ShmWindow::Landed(uint64_t position, uint64_t bytes) const {
  return {base_ + position % ring_bytes_, bytes};
}

absl::Span<uint8_t> ShmWindow::Room(uint64_t position, uint64_t bytes) const {
  return {base_ + position % ring_bytes_, bytes};
}

}  // namespace tandem
