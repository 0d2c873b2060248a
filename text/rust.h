#pragma once
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "text/tandem_text.h"

// Owners of what the crate's C ABI hands out; for the files of this folder only.
namespace tandem::text_internal {

// Bytes that Rust allocated; freed by it.
class RustBytes {
 public:
  RustBytes() = default;
  RustBytes(const RustBytes&) = delete;
  RustBytes& operator=(const RustBytes&) = delete;
  ~RustBytes() { tt_bytes_free(&bytes_); }
  tt_bytes* out() { return &bytes_; }
  absl::string_view view() const {
    return absl::string_view(reinterpret_cast<const char*>(bytes_.ptr), bytes_.len);
  }

 private:
  tt_bytes bytes_{};
};

// Numbers that Rust allocated; freed by it.
class RustIds {
 public:
  RustIds() = default;
  RustIds(const RustIds&) = delete;
  RustIds& operator=(const RustIds&) = delete;
  ~RustIds() { tt_ids_free(&ids_); }
  tt_ids* out() { return &ids_; }
  template <typename T>
  std::vector<T> Copy() const {
    return std::vector<T>(ids_.ptr, ids_.ptr + ids_.len);
  }

 private:
  tt_ids ids_{};
};

inline const uint8_t* Data(absl::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

// What a tt_status means for whoever asked. A wrong tokenizer, template or request is
// InvalidArgument; a panic in the crate is Internal.
absl::Status FromRust(tt_status status, const RustBytes& error);

}  // namespace tandem::text_internal
