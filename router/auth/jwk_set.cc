#include "router/auth/jwk_set.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "nlohmann/json.hpp"

namespace tandem {
namespace {

using Json = nlohmann::json;
using Algorithm = SignatureAlgorithm;

constexpr size_t kSetBytesMax = 1 << 20;
constexpr size_t kKeysMax = 256;
constexpr int kRsaBitsMin = 2048, kRsaBitsMax = 8192;

struct Named {
  absl::string_view name;
  Algorithm algorithm;
};
constexpr Named kAlgorithms[] = {{"RS256", Algorithm::kRs256}, {"RS384", Algorithm::kRs384},
                                 {"RS512", Algorithm::kRs512}, {"PS256", Algorithm::kPs256},
                                 {"ES256", Algorithm::kEs256}, {"ES384", Algorithm::kEs384},
                                 {"EdDSA", Algorithm::kEdDsa}};

struct Curve {
  absl::string_view jwk, openssl;
  size_t bytes;  // of one coordinate
  Algorithm algorithm;
};
constexpr Curve kCurves[] = {{"P-256", "prime256v1", 32, Algorithm::kEs256},
                             {"P-384", "secp384r1", 48, Algorithm::kEs384}};

struct FreeParams {
  void operator()(OSSL_PARAM_BLD* build) const { OSSL_PARAM_BLD_free(build); }
  void operator()(OSSL_PARAM* params) const { OSSL_PARAM_free(params); }
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
  void operator()(BIGNUM* number) const { BN_free(number); }
};
using ParamBuild = std::unique_ptr<OSSL_PARAM_BLD, FreeParams>;
using Params = std::unique_ptr<OSSL_PARAM, FreeParams>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, FreeParams>;
using Number = std::unique_ptr<BIGNUM, FreeParams>;

std::string Text(const Json& json, const char* name) {
  const auto found = json.find(name);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

// The bytes of a base64url member; empty if there are none.
std::string Bytes(const Json& json, const char* name) {
  std::string out;
  return absl::WebSafeBase64Unescape(Text(json, name), &out) ? out : "";
}

const unsigned char* Raw(absl::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

Number NumberOf(absl::string_view bytes) {
  return Number(BN_bin2bn(Raw(bytes), static_cast<int>(bytes.size()), nullptr));
}

// Null where OpenSSL takes the parameters for no key.
PublicKey FromParams(const char* type, OSSL_PARAM_BLD* build) {
  const Params params(OSSL_PARAM_BLD_to_param(build));
  const KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* key = nullptr;
  if (params == nullptr || context == nullptr || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1) {
    return nullptr;
  }
  PublicKey out(key);
  const KeyContext check(EVP_PKEY_CTX_new_from_pkey(nullptr, out.get(), nullptr));
  return check != nullptr && EVP_PKEY_public_check(check.get()) == 1 ? std::move(out) : nullptr;
}

PublicKey RsaKey(const Json& json) {
  const std::string modulus = Bytes(json, "n");
  const std::string exponent = Bytes(json, "e");
  if (modulus.empty() || exponent.empty() || modulus.size() > kRsaBitsMax / 8 + 1) return nullptr;
  if (exponent.size() > 8) return nullptr;  // an absurd one makes each check slow
  const Number n = NumberOf(modulus);
  const Number e = NumberOf(exponent);
  if (BN_num_bits(n.get()) < kRsaBitsMin || BN_num_bits(n.get()) > kRsaBitsMax) return nullptr;
  const ParamBuild build(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_BN(build.get(), OSSL_PKEY_PARAM_RSA_N, n.get());
  OSSL_PARAM_BLD_push_BN(build.get(), OSSL_PKEY_PARAM_RSA_E, e.get());
  return FromParams("RSA", build.get());
}

PublicKey EcKey(const Json& json, const Curve& curve) {
  const std::string x = Bytes(json, "x");
  const std::string y = Bytes(json, "y");
  if (x.size() != curve.bytes || y.size() != curve.bytes) return nullptr;
  const std::string point = absl::StrCat("\x04", x, y);  // uncompressed
  const ParamBuild build(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_utf8_string(build.get(), OSSL_PKEY_PARAM_GROUP_NAME, curve.openssl.data(),
                                  curve.openssl.size());
  OSSL_PARAM_BLD_push_octet_string(build.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                   point.size());
  return FromParams("EC", build.get());
}

PublicKey Ed25519Key(const Json& json) {
  const std::string x = Bytes(json, "x");
  return PublicKey(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, Raw(x), x.size()));  // checks the size
}

std::optional<Jwk> ReadKey(const Json& json) {
  if (!json.is_object()) return std::nullopt;
  const std::string use = Text(json, "use");
  if (!use.empty() && use != "sig") return std::nullopt;
  Jwk out;
  out.id = Text(json, "kid");
  const std::string type = Text(json, "kty");
  const std::string curve = Text(json, "crv");
  if (type == "RSA") {
    out.key = RsaKey(json);
    out.algorithms = {Algorithm::kRs256, Algorithm::kRs384, Algorithm::kRs512, Algorithm::kPs256};
  } else if (type == "OKP" && curve == "Ed25519") {
    out.key = Ed25519Key(json);
    out.algorithms = {Algorithm::kEdDsa};
  } else if (type == "EC") {
    for (const Curve& known : kCurves) {
      if (known.jwk != curve) continue;
      out.key = EcKey(json, known);
      out.algorithms = {known.algorithm};
    }
  }
  ERR_clear_error();
  if (out.key == nullptr) return std::nullopt;
  if (const std::string named = Text(json, "alg"); !named.empty()) {
    const auto only = ParseSignatureAlgorithm(named);
    std::erase_if(out.algorithms, [&only](Algorithm one) { return !only.ok() || one != *only; });
    if (out.algorithms.empty()) return std::nullopt;
  }
  return out;
}

const EVP_MD* DigestOf(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kRs256:
    case Algorithm::kPs256:
    case Algorithm::kEs256:
      return EVP_sha256();
    case Algorithm::kRs384:
    case Algorithm::kEs384:
      return EVP_sha384();
    case Algorithm::kRs512:
      return EVP_sha512();
    case Algorithm::kEdDsa:
      return nullptr;  // has its own
  }
  return nullptr;
}

// A token carries r and s side by side, and OpenSSL wants them as DER. Empty: not of that length.
std::string EcdsaDer(absl::string_view signature, size_t coordinate) {
  if (signature.size() != 2 * coordinate) return "";
  ECDSA_SIG* const both = ECDSA_SIG_new();
  ECDSA_SIG_set0(both, NumberOf(signature.substr(0, coordinate)).release(),
                 NumberOf(signature.substr(coordinate)).release());
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(both, &der);
  ECDSA_SIG_free(both);
  std::string out(reinterpret_cast<char*>(der), static_cast<size_t>(std::max(size, 0)));
  OPENSSL_free(der);
  return out;
}

struct FreeDigestContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

bool Verify(EVP_PKEY* key, Algorithm algorithm, absl::string_view text,
            absl::string_view signature) {
  const std::unique_ptr<EVP_MD_CTX, FreeDigestContext> context(EVP_MD_CTX_new());
  EVP_PKEY_CTX* options = nullptr;  // the context's
  if (EVP_DigestVerifyInit(context.get(), &options, DigestOf(algorithm), nullptr, key) != 1) {
    return false;
  }
  if (algorithm == Algorithm::kPs256 &&
      (EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) != 1 ||
       EVP_PKEY_CTX_set_rsa_pss_saltlen(options, RSA_PSS_SALTLEN_DIGEST) != 1)) {
    return false;
  }
  return EVP_DigestVerify(context.get(), Raw(signature), signature.size(), Raw(text),
                          text.size()) == 1;
}

}  // namespace

absl::StatusOr<SignatureAlgorithm> ParseSignatureAlgorithm(absl::string_view name) {
  std::string known;
  for (const Named& one : kAlgorithms) {
    if (one.name == name) return one.algorithm;
    absl::StrAppend(&known, known.empty() ? "" : ", ", one.name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no signature algorithm that is honoured; those are ", known));
}

absl::StatusOr<JwkSet> JwkSet::Parse(absl::string_view json) {
  if (json.size() > kSetBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a key set of ", json.size(), " bytes; at most ", kSetBytesMax));
  }
  const Json parsed = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  const auto keys = parsed.is_object() ? parsed.find("keys") : parsed.end();
  if (!parsed.is_object() || keys == parsed.end() || !keys->is_array()) {
    return absl::InvalidArgumentError(R"(no JSON Web Key Set: want {"keys": [...]})");
  }
  if (keys->size() > kKeysMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a key set of ", keys->size(), " keys; at most ", kKeysMax));
  }
  JwkSet out;
  for (const Json& one : *keys) {
    if (std::optional<Jwk> key = ReadKey(one)) out.keys_.push_back(*std::move(key));
  }
  if (out.keys_.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("none of ", keys->size(), " keys can check a signature: want RSA of ",
                     kRsaBitsMin, " bits or more, EC on P-256 or P-384, or Ed25519"));
  }
  return out;
}

std::vector<const Jwk*> JwkSet::Find(absl::string_view id, SignatureAlgorithm algorithm) const {
  std::vector<const Jwk*> out;
  for (const Jwk& key : keys_) {
    if (!id.empty() && key.id != id) continue;
    const auto& can = key.algorithms;
    if (std::find(can.begin(), can.end(), algorithm) != can.end()) out.push_back(&key);
  }
  return out;
}

bool IsSignedBy(const Jwk& key, SignatureAlgorithm algorithm, absl::string_view text,
                absl::string_view signature) {
  const auto& can = key.algorithms;
  if (std::find(can.begin(), can.end(), algorithm) == can.end()) return false;
  std::string der;
  for (const Curve& curve : kCurves) {
    if (curve.algorithm != algorithm) continue;
    der = EcdsaDer(signature, curve.bytes);
    if (der.empty()) return false;
    signature = der;
  }
  const bool good = Verify(key.key.get(), algorithm, text, signature);
  ERR_clear_error();
  return good;
}

}  // namespace tandem
