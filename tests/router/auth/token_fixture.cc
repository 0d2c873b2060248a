#include "tests/router/auth/token_fixture.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

using nlohmann::json;

std::string Escape(absl::string_view bytes) { return absl::WebSafeBase64Escape(bytes); }

std::string BodyOf(const json& header, const json& claims) {
  return absl::StrCat(Escape(header.dump()), ".", Escape(claims.dump()));
}

std::string NumberOf(EVP_PKEY* key, const char* name, int size = 0) {
  BIGNUM* number = nullptr;
  EVP_PKEY_get_bn_param(key, name, &number);
  std::string out(static_cast<size_t>(size > 0 ? size : BN_num_bytes(number)), '\0');
  BN_bn2binpad(number, reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(out.size()));
  BN_free(number);
  return Escape(out);
}

int CoordinateOf(const std::string& algorithm) { return algorithm == "ES256" ? 32 : 48; }

// r and s side by side, from DER.
std::string Joined(const std::string& der, int coordinate) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(der.data());
  ECDSA_SIG* pair = d2i_ECDSA_SIG(nullptr, &bytes, static_cast<long>(der.size()));  // NOLINT
  std::string out(static_cast<size_t>(2 * coordinate), '\0');
  auto* to = reinterpret_cast<unsigned char*>(out.data());
  BN_bn2binpad(ECDSA_SIG_get0_r(pair), to, coordinate);
  BN_bn2binpad(ECDSA_SIG_get0_s(pair), to + coordinate, coordinate);
  ECDSA_SIG_free(pair);
  return out;
}

}  // namespace

TokenSigner TokenSigner::Make(const std::string& algorithm, const std::string& id, int rsa_bits) {
  TokenSigner out;
  out.algorithm_ = algorithm;
  out.id_ = id;
  EVP_PKEY* key = nullptr;
  if (algorithm == "EdDSA") {
    key = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
  } else if (algorithm[0] == 'E') {
    key = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", algorithm == "ES256" ? "P-256" : "P-384");
  } else {
    key = EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", static_cast<size_t>(rsa_bits));
  }
  out.key_.reset(key);
  return out;
}

json TokenSigner::Jwk() const {
  json out = {{"kid", id_}, {"use", "sig"}};
  if (algorithm_ == "EdDSA") {
    std::string raw(32, '\0');
    size_t size = raw.size();
    EVP_PKEY_get_raw_public_key(key_.get(), reinterpret_cast<unsigned char*>(raw.data()), &size);
    out.update({{"kty", "OKP"}, {"crv", "Ed25519"}, {"x", Escape(raw)}});
  } else if (algorithm_[0] == 'E') {
    const int size = CoordinateOf(algorithm_);
    out.update({{"kty", "EC"},
                {"crv", size == 32 ? "P-256" : "P-384"},
                {"x", NumberOf(key_.get(), OSSL_PKEY_PARAM_EC_PUB_X, size)},
                {"y", NumberOf(key_.get(), OSSL_PKEY_PARAM_EC_PUB_Y, size)}});
  } else {
    out.update({{"kty", "RSA"},
                {"n", NumberOf(key_.get(), OSSL_PKEY_PARAM_RSA_N)},
                {"e", NumberOf(key_.get(), OSSL_PKEY_PARAM_RSA_E)}});
  }
  return out;
}

std::string TokenSigner::SignatureOf(absl::string_view text) const {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  EVP_PKEY_CTX* options = nullptr;
  const EVP_MD* digest = algorithm_ == "EdDSA"   ? nullptr
                         : algorithm_ == "ES384" ? EVP_sha384()
                                                 : EVP_sha256();
  EVP_DigestSignInit(context, &options, digest, nullptr, key_.get());
  if (algorithm_ == "PS256") {
    EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING);
    EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_DIGEST);
  }
  const auto* data = reinterpret_cast<const unsigned char*>(text.data());
  size_t size = 0;
  EVP_DigestSign(context, nullptr, &size, data, text.size());
  std::string out(size, '\0');
  EVP_DigestSign(context, reinterpret_cast<unsigned char*>(out.data()), &size, data, text.size());
  EVP_MD_CTX_free(context);
  out.resize(size);
  const bool elliptic = algorithm_ == "ES256" || algorithm_ == "ES384";
  return elliptic ? Joined(out, CoordinateOf(algorithm_)) : out;
}

std::string TokenSigner::Sign(const json& header, const json& claims) const {
  const std::string body = BodyOf(header, claims);
  return absl::StrCat(body, ".", Escape(SignatureOf(body)));
}

std::string TokenSigner::Sign(const json& claims) const {
  return Sign({{"alg", algorithm_}, {"typ", "JWT"}, {"kid", id_}}, claims);
}

std::string TokenSigner::PublicPem() const {
  BIO* memory = BIO_new(BIO_s_mem());
  PEM_write_bio_PUBKEY(memory, key_.get());
  char* text = nullptr;
  const auto size = BIO_get_mem_data(memory, &text);
  std::string out(text, static_cast<size_t>(size));
  BIO_free(memory);
  return out;
}

std::string KeySetOf(std::initializer_list<const TokenSigner*> signers) {
  json keys = json::array();
  for (const TokenSigner* one : signers) keys.push_back(one->Jwk());
  return json{{"keys", keys}}.dump();
}

std::string HmacSigned(const json& header, const json& claims, absl::string_view secret) {
  const std::string body = BodyOf(header, claims);
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(body.data()), body.size(), mac, &size);
  return absl::StrCat(body, ".", Escape({reinterpret_cast<const char*>(mac), size}));
}

absl::Time TestNow() { return absl::FromUnixSeconds(1'800'000'000); }

json GoodClaims() {
  return {{"iss", kTestIssuer},
          {"aud", kTestAudience},
          {"sub", "user-7"},
          {"exp", absl::ToUnixSeconds(TestNow()) + 3600},
          {"iat", absl::ToUnixSeconds(TestNow())},
          {"tandem_product", "chat"}};
}

}  // namespace tandem
