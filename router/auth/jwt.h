#pragma once
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "router/auth/jwk_set.h"

namespace tandem {

// Which tokens of an identity provider (OIDC) are honoured, and what of theirs says whose they are.
struct JwtPolicy {
  std::string issuer;    // `iss`, exactly; not empty
  std::string audience;  // among `aud`; not empty: a token for another service opens nothing here
  std::vector<SignatureAlgorithm> algorithms;
  absl::Duration leeway = absl::Seconds(30);  // by which clocks may differ
  std::string product_claim = "tandem_product";
  std::string organisation_claim = "tandem_organisation";
  std::string models_claim = "tandem_models";
};

// What a token that is good says.
struct JwtIdentity {
  std::string subject;              // `sub`
  std::string product_id;           // of a user; or
  std::string organisation_id;      // that it manages, `*` for all: one of the two
  std::vector<std::string> models;  // that it may name; empty: all
  absl::Time expires;
};

// Whether this text looks like a token, and not like a key.
bool LooksLikeJwt(absl::string_view text);

// What a signed token (JWS, compact) says, if it is good at `now` by the wall clock.
//   limits  16 KiB; `exp` and `sub` have to be there; where it does not name its key, or several
//           have that name, the first eight are tried
//   errors  Unauthenticated with what is wrong, and nothing of the token. NotFound: its key is not
//           in the set; a newer set may have it
absl::StatusOr<JwtIdentity> VerifyJwt(absl::string_view text, const JwkSet& keys,
                                      const JwtPolicy& policy, absl::Time now);

}  // namespace tandem
