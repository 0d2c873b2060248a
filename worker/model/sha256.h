#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

struct evp_md_ctx_st;

namespace tandem {

using Sha256Digest = std::array<uint8_t, 32>;

// A SHA-256 in the making.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) = default;
  Sha256& operator=(Sha256&&) = default;
  ~Sha256() = default;

  void Update(absl::Span<const uint8_t> bytes);
  void Update(absl::string_view text);
  Sha256Digest Finish() &&;

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

std::string HexOf(const Sha256Digest& digest);
std::string Sha256Hex(absl::string_view data);

}  // namespace tandem
