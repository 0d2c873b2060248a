#pragma once
#include <map>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "router/auth/jwt.h"
#include "router/auth/principal.h"

// Principals of callers who have no key of ours. KeyRing::Complete says whether they are honoured.
namespace tandem {

// Whom a good token is of. Its key id is made from issuer and subject, so that limits and the
// ledger tell one subject from another without holding their names.
Principal PrincipalOf(const JwtIdentity& identity, absl::string_view issuer);

// Whom the names in client certificates stand for.
//   threads immutable: any
class CertificateNames {
 public:
  // From each subject alternative name to `product/ID`, `organisation/ID` (who manages it) or
  // `cluster` (who manages all). InvalidArgument names the entry that is none of them.
  static absl::StatusOr<CertificateNames> Create(const std::map<std::string, std::string>& names);

  bool empty() const { return principals_.empty(); }
  // Of a certificate that was verified. NotFound: none of its names is known. Unauthenticated: they
  // stand for different principals.
  absl::StatusOr<Principal> Find(absl::Span<const std::string> names) const;

 private:
  absl::flat_hash_map<std::string, Principal> principals_;
};

}  // namespace tandem
