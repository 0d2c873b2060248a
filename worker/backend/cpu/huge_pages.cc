#include "worker/backend/cpu/huge_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kRegion = size_t{32} << 20;
constexpr size_t kAlignment = 64;

size_t RoundUp(size_t value, size_t step) { return (value + step - 1) / step * step; }

}  // namespace

absl::StatusOr<HugePages> HugePages::Map(size_t bytes) {
  const size_t size = RoundUp(std::max<size_t>(bytes, 1), kHugePage);
  void* mapped = size < bytes ? MAP_FAILED
                              : mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for ", bytes, " bytes"));
  }
  // The mapping is one page longer than asked; its unaligned ends are given back.
  uint8_t* const begin = static_cast<uint8_t*>(mapped);
  uint8_t* const data = begin + (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage);
  munmap(begin, data - begin);
  if (const size_t tail = begin + kHugePage - data; tail > 0) munmap(data + size, tail);
  (void)madvise(data, size, MADV_HUGEPAGE);  // a kernel without huge pages serves small ones
  return HugePages(data, size);
}

HugePages::HugePages(HugePages&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

HugePages& HugePages::operator=(HugePages&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

HugePages::~HugePages() {
  if (data_ != nullptr) munmap(data_, size_);
}

absl::StatusOr<uint8_t*> Arena::Allocate(size_t bytes) {
  const size_t need = RoundUp(bytes, kAlignment);
  if (regions_.empty() || regions_.back().size() - used_ < need) {
    ASSIGN_OR_RETURN(HugePages region, HugePages::Map(std::max(need, kRegion)));
    regions_.push_back(std::move(region));
    used_ = 0;
  }
  uint8_t* const piece = regions_.back().data() + used_;
  used_ += need;
  return piece;
}

}  // namespace tandem
