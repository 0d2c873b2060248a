#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

// Digests. SHA-256 names things and keys blocks, so that no tenant can collide with another or
// probe for what it holds; XXH3 only notices corruption on the way.
namespace tandem {

using Sha256Digest = std::array<uint8_t, 32>;

Sha256Digest Sha256(absl::Span<const uint8_t> bytes);
std::string Sha256Hex(absl::Span<const uint8_t> bytes);
std::string Sha256Hex(absl::string_view text);
std::string ToHex(absl::Span<const uint8_t> bytes);  // two lower-case digits a byte

// SHA-256 of what arrives in pieces, such as a file.
//   threads one at a time
//   life    Finish() gives the digest and ends it
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  void Update(absl::Span<const uint8_t> bytes);
  // For what is a list of fields: the length goes first, so that no two lists have one digest.
  void UpdateField(absl::string_view field);
  Sha256Digest Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Names a block by its contents and by all that comes before it: 128 bits of a SHA-256.
struct BlockKey {
  std::array<uint8_t, 16> bytes = {};

  friend bool operator==(const BlockKey&, const BlockKey&) = default;
  friend auto operator<=>(const BlockKey&, const BlockKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const BlockKey& key) {
    return H::combine(std::move(h), key.bytes);
  }
};

// The key before the first block: blocks are shared only where all three are equal.
//   kv_abi      hex digest of what makes blocks interchangeable (kvstore/types.h)
//   tenant_key  secret that keeps tenants apart; empty where there is one tenant
//   salt        the client's own wish to share with nobody else
BlockKey RootBlockKey(absl::string_view kv_abi, absl::string_view tenant_key,
                      absl::string_view salt);

// The key of the block that holds `token_ids` and follows `parent`. `media_digests` stands for what
// token ids do not name, such as LoRA weights and images; mostly empty.
BlockKey ChainBlockKey(const BlockKey& parent, absl::Span<const int32_t> token_ids,
                       absl::string_view media_digests = {});

// XXH3-128 of a payload, canonical (big-endian) bytes. Against corruption only.
std::array<uint8_t, 16> PayloadDigest(absl::Span<const uint8_t> bytes);

}  // namespace tandem
