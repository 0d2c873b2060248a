#include "router/auth/identity.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/block_hash.h"
#include "base/status.h"

namespace tandem {
namespace {

// Within the bounds of a key's id, whatever is in the names.
std::string IdOf(absl::string_view kind, absl::string_view issuer, absl::string_view name) {
  Sha256Stream digest;
  digest.UpdateField(issuer);
  digest.UpdateField(name);
  const Sha256Digest all = digest.Finish();
  const absl::string_view bytes(reinterpret_cast<const char*>(all.data()), all.size());
  return absl::StrCat(kind, "-", absl::BytesToHexString(bytes.substr(0, 16)));
}

absl::StatusOr<Principal> ParseTarget(absl::string_view target) {
  Principal out;
  if (target == "cluster") {
    out.kind = KeyKind::kManagement;
    return out;
  }
  if (absl::ConsumePrefix(&target, "product/") && !target.empty()) {
    out.product_id = std::string(target);
    return out;
  }
  if (absl::ConsumePrefix(&target, "organisation/") && !target.empty()) {
    out.kind = KeyKind::kManagement;
    out.organisation_id = std::string(target);
    return out;
  }
  return absl::InvalidArgumentError("want product/ID, organisation/ID or cluster");
}

bool SameSubject(const Principal& a, const Principal& b) {
  return a.kind == b.kind && a.product_id == b.product_id && a.organisation_id == b.organisation_id;
}

}  // namespace

Principal PrincipalOf(const JwtIdentity& identity, absl::string_view issuer) {
  Principal out;
  out.kind = identity.product_id.empty() ? KeyKind::kManagement : KeyKind::kUser;
  out.product_id = identity.product_id;
  if (identity.organisation_id != "*") out.organisation_id = identity.organisation_id;
  out.key_id = IdOf("jwt", issuer, identity.subject);
  if (!identity.models.empty()) {
    out.models = std::make_shared<const std::vector<std::string>>(identity.models);
  }
  return out;
}

absl::StatusOr<CertificateNames> CertificateNames::Create(
    const std::map<std::string, std::string>& names) {
  CertificateNames out;
  for (const auto& [name, target] : names) {
    absl::StatusOr<Principal> principal = ParseTarget(target);
    if (!principal.ok()) return Annotate(principal.status(), name);
    principal->key_id = IdOf("mtls", "", name);
    out.principals_.emplace(name, *std::move(principal));
  }
  return out;
}

absl::StatusOr<Principal> CertificateNames::Find(absl::Span<const std::string> names) const {
  const Principal* found = nullptr;
  for (const std::string& name : names) {
    const auto one = principals_.find(name);
    if (one == principals_.end()) continue;
    if (found != nullptr && !SameSubject(*found, one->second)) {
      return absl::UnauthenticatedError(
          "the names of the client's certificate stand for different principals");
    }
    found = found == nullptr ? &one->second : found;
  }
  if (found == nullptr) return absl::NotFoundError("no name of the client's certificate is known");
  return *found;
}

}  // namespace tandem
