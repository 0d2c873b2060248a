#pragma once
#include <openssl/evp.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem {

// How a token is signed (RFC 7518, RFC 8037), as far as it is honoured: with public keys only, so
// that nothing that everybody may read can sign a token.
enum class SignatureAlgorithm { kRs256, kRs384, kRs512, kPs256, kEs256, kEs384, kEdDsa };

// "RS256"; InvalidArgument, with the names there are, for any other, `none` and HMAC among them.
absl::StatusOr<SignatureAlgorithm> ParseSignatureAlgorithm(absl::string_view name);

struct FreePublicKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using PublicKey = std::unique_ptr<EVP_PKEY, FreePublicKey>;

// One key of an issuer.
struct Jwk {
  std::string id;                              // `kid`; may be empty
  std::vector<SignatureAlgorithm> algorithms;  // that it can check: by its type, curve and `alg`
  PublicKey key;
};

// The public keys of an issuer, from a JSON Web Key Set (RFC 7517).
//   threads immutable: any
class JwkSet {
 public:
  // Keys of another type, for another use or of too few bits are left out, as the RFC wants.
  //   limits  1 MiB, 256 keys; RSA of 2,048 to 8,192 bits
  //   errors  InvalidArgument when it is no such set, or none of its keys is left
  static absl::StatusOr<JwkSet> Parse(absl::string_view json);

  // Those that may have made a signature by this algorithm: the ones with the id, or all where the
  // token names none.
  std::vector<const Jwk*> Find(absl::string_view id, SignatureAlgorithm algorithm) const;
  size_t size() const { return keys_.size(); }

 private:
  std::vector<Jwk> keys_;
};

// Whether `signature` is the key's over `text`. False for every kind of nonsense.
bool IsSignedBy(const Jwk& key, SignatureAlgorithm algorithm, absl::string_view text,
                absl::string_view signature);

}  // namespace tandem
