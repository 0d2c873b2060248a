#pragma once
#include <openssl/evp.h>

#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace tandem {

// A key pair of an issuer, and the tokens it signs.
class TokenSigner {
 public:
  // "RS256" or "PS256" (2,048 bits, or fewer), "ES256", "ES384", "EdDSA".
  static TokenSigner Make(const std::string& algorithm, const std::string& id, int rsa_bits = 2048);

  // The public half, as a member of `keys`.
  nlohmann::json Jwk() const;
  // Header and claims as given, and the signature over them.
  std::string Sign(const nlohmann::json& header, const nlohmann::json& claims) const;
  // With the header that belongs to the key.
  std::string Sign(const nlohmann::json& claims) const;
  std::string PublicPem() const;

 private:
  struct Free {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  };
  std::string SignatureOf(absl::string_view text) const;

  std::string algorithm_, id_;
  std::unique_ptr<EVP_PKEY, Free> key_;
};

std::string KeySetOf(std::initializer_list<const TokenSigner*> signers);

// HMAC-SHA256, what a token signed with a shared secret has.
std::string HmacSigned(const nlohmann::json& header, const nlohmann::json& claims,
                       absl::string_view secret);

constexpr char kTestIssuer[] = "https://login.example.com/";
constexpr char kTestAudience[] = "tandem";
absl::Time TestNow();
// Of a good token of product `chat`, an hour long.
nlohmann::json GoodClaims();

}  // namespace tandem
