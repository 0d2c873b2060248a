#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem {

// A zeroed mapping, aligned to 2 MiB and advised to be backed by huge pages: with 4 KiB pages a
// core reads a fifth less from memory.
class HugePages {
 public:
  static absl::StatusOr<HugePages> Map(size_t bytes);  // RESOURCE_EXHAUSTED names the size
  HugePages(HugePages&& other) noexcept;
  HugePages& operator=(HugePages&& other) noexcept;
  ~HugePages();

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  HugePages(uint8_t* data, size_t size) : data_(data), size_(size) {}
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Hands out zeroed memory from large mappings; frees all of it at once, at its end.
//   units   every piece starts at a multiple of 64 bytes
//   threads one at a time
class Arena {
 public:
  absl::StatusOr<uint8_t*> Allocate(size_t bytes);

 private:
  std::vector<HugePages> regions_;
  size_t used_ = 0;  // of the last region
};

}  // namespace tandem
