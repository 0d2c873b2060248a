#include "worker/model/sha256.h"

#include <openssl/evp.h>

#include "absl/strings/escaping.h"

namespace tandem {

void Sha256::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr);
}

void Sha256::Update(absl::Span<const uint8_t> bytes) {
  EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size());
}

void Sha256::Update(absl::string_view text) {
  EVP_DigestUpdate(context_.get(), text.data(), text.size());
}

Sha256Digest Sha256::Finish() && {
  Sha256Digest digest = {};
  EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr);
  return digest;
}

std::string HexOf(const Sha256Digest& digest) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size()));
}

std::string Sha256Hex(absl::string_view data) {
  Sha256 sha;
  sha.Update(data);
  return HexOf(std::move(sha).Finish());
}

}  // namespace tandem
