#pragma once
#include <array>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/block_hash.h"

namespace tandem {

// What a caller proves itself with, `tdm_<id>_<secret>`: the id is that of a Key in the store; the
// secret is 48 characters, 256 random bits and a checksum over both, by which scanners tell a
// leaked key from other text and a mistyped one is known before it is looked up.
struct ApiKey {
  std::string id;
  std::array<uint8_t, 32> secret{};
};

// With a secret from the kernel's generator.
ApiKey NewApiKey(std::string id);
std::string TextOf(const ApiKey& key);
// Unauthenticated for anything else; the message never holds any of the text.
absl::StatusOr<ApiKey> ParseApiKey(absl::string_view text);

// What the store keeps of the secret. A fast hash is enough: nobody can try 2^256 secrets.
Sha256Digest SecretDigest(const ApiKey& key);
// In a time that does not depend on where they differ.
bool SameDigest(const Sha256Digest& a, const Sha256Digest& b);

}  // namespace tandem
