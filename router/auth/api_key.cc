#include "router/auth/api_key.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/ids.h"

namespace tandem {
namespace {

constexpr absl::string_view kPrefix = "tdm_";
constexpr size_t kChecksumBytes = 4;
constexpr size_t kSecretBytes = sizeof(ApiKey::secret);
constexpr size_t kSecretText = (kSecretBytes + kChecksumBytes) / 3 * 4;
static_assert((kSecretBytes + kChecksumBytes) % 3 == 0, "no padding");
constexpr size_t kIdMax = 64;

absl::Span<const uint8_t> Bytes(absl::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Sha256Digest DigestFor(absl::string_view purpose, const ApiKey& key) {
  Sha256Stream digest;
  digest.UpdateField(purpose);
  digest.UpdateField(key.id);
  digest.Update(key.secret);
  return digest.Finish();
}

std::string SecretText(const ApiKey& key) {
  std::string bytes(key.secret.begin(), key.secret.end());
  const Sha256Digest checksum = DigestFor("tandem key checksum", key);
  bytes.append(checksum.begin(), checksum.begin() + kChecksumBytes);
  return absl::WebSafeBase64Escape(bytes);
}

absl::Status NotAKey() {
  return absl::UnauthenticatedError(
      "this is no API key: want tdm_<id>_<secret>, whole and as it was given out");
}

}  // namespace

ApiKey NewApiKey(std::string id) {
  ApiKey key{std::move(id)};
  for (size_t i = 0; i < kSecretBytes; i += sizeof(uint64_t)) {
    const uint64_t random = RandomUint64();
    std::memcpy(key.secret.data() + i, &random, sizeof(random));
  }
  return key;
}

std::string TextOf(const ApiKey& key) {
  return absl::StrCat(kPrefix, key.id, "_", SecretText(key));
}

absl::StatusOr<ApiKey> ParseApiKey(absl::string_view text) {
  const size_t around = kPrefix.size() + 1 + kSecretText;
  if (text.size() <= around || text.size() > around + kIdMax) return NotAKey();
  const size_t id_size = text.size() - around;
  if (!absl::StartsWith(text, kPrefix) || text[kPrefix.size() + id_size] != '_') return NotAKey();
  ApiKey key{std::string(text.substr(kPrefix.size(), id_size))};
  std::string bytes;
  const absl::string_view secret = text.substr(text.size() - kSecretText);
  if (!absl::WebSafeBase64Unescape(secret, &bytes)) return NotAKey();
  if (bytes.size() != kSecretBytes + kChecksumBytes) return NotAKey();
  const absl::Span<const uint8_t> all = Bytes(bytes);
  std::copy(all.begin(), all.begin() + kSecretBytes, key.secret.begin());
  // Base64 has several spellings of some bytes, and a key only one.
  if (SecretText(key) != secret) return NotAKey();
  return key;
}

Sha256Digest SecretDigest(const ApiKey& key) { return DigestFor("tandem key secret", key); }

bool SameDigest(const Sha256Digest& a, const Sha256Digest& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace tandem
