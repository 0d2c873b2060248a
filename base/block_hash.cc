#include "base/block_hash.h"

#include <openssl/evp.h>
#include <xxhash.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "base/check.h"

namespace tandem {
namespace {

absl::Span<const uint8_t> AsBytes(absl::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// Little-endian on every machine, so that keys mean the same everywhere.
template <typename T>
std::array<uint8_t, sizeof(T)> LittleEndian(T value) {
  std::array<uint8_t, sizeof(T)> bytes;
  for (size_t i = 0; i < sizeof(T); ++i) bytes[i] = static_cast<uint8_t>(value >> (8 * i));
  return bytes;
}

BlockKey Prefix(const Sha256Digest& digest) {
  BlockKey key;
  std::copy_n(digest.begin(), key.bytes.size(), key.bytes.begin());
  return key;
}

}  // namespace

struct Sha256Stream::State {
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context{EVP_MD_CTX_new()};
};

Sha256Stream::Sha256Stream() : state_(std::make_unique<State>()) {
  TANDEM_CHECK(EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr) == 1,
               "OpenSSL has SHA-256");
}

Sha256Stream::~Sha256Stream() = default;

void Sha256Stream::Update(absl::Span<const uint8_t> bytes) {
  TANDEM_CHECK(EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()) == 1,
               "SHA-256 takes any bytes until Finish()");
}

void Sha256Stream::UpdateField(absl::string_view field) {
  Update(LittleEndian<uint64_t>(field.size()));
  Update(AsBytes(field));
}

Sha256Digest Sha256Stream::Finish() {
  Sha256Digest digest;
  TANDEM_CHECK(EVP_DigestFinal_ex(state_->context.get(), digest.data(), nullptr) == 1,
               "SHA-256 finishes once");
  return digest;
}

Sha256Digest Sha256(absl::Span<const uint8_t> bytes) {
  Sha256Stream stream;
  stream.Update(bytes);
  return stream.Finish();
}

std::string ToHex(absl::Span<const uint8_t> bytes) {
  return absl::BytesToHexString({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

std::string Sha256Hex(absl::Span<const uint8_t> bytes) { return ToHex(Sha256(bytes)); }
std::string Sha256Hex(absl::string_view text) { return Sha256Hex(AsBytes(text)); }

BlockKey RootBlockKey(absl::string_view kv_abi, absl::string_view tenant_key,
                      absl::string_view salt) {
  Sha256Stream stream;
  stream.UpdateField("tandem block root 1");
  stream.UpdateField(kv_abi);
  stream.UpdateField(tenant_key);
  stream.UpdateField(salt);
  return Prefix(stream.Finish());
}

BlockKey ChainBlockKey(const BlockKey& parent, absl::Span<const int32_t> token_ids,
                       absl::string_view media_digests) {
  Sha256Stream stream;
  stream.UpdateField("tandem block 1");
  stream.Update(parent.bytes);
  stream.Update(LittleEndian<uint64_t>(token_ids.size()));
  for (const int32_t id : token_ids) stream.Update(LittleEndian(static_cast<uint32_t>(id)));
  stream.UpdateField(media_digests);
  return Prefix(stream.Finish());
}

std::array<uint8_t, 16> PayloadDigest(absl::Span<const uint8_t> bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  std::array<uint8_t, 16> digest;
  std::copy_n(canonical.digest, digest.size(), digest.begin());
  return digest;
}

}  // namespace tandem
