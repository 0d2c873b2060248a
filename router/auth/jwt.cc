#include "router/auth/jwt.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "nlohmann/json.hpp"

namespace tandem {
namespace {

using Json = nlohmann::json;

constexpr size_t kTokenBytesMax = 16 << 10;
constexpr size_t kSubjectBytesMax = 256;
constexpr size_t kModelsMax = 256;
constexpr size_t kModelBytesMax = 256;
constexpr size_t kTriesMax = 8;  // keys that a signature is checked with

absl::Status Refused(absl::string_view why) {
  return absl::UnauthenticatedError(absl::StrCat("the token is not honoured: ", why));
}

// Only the one spelling that an encoder makes: no padding, nothing before, between or after.
std::optional<std::string> Unescape(absl::string_view part) {
  std::string out;
  if (!absl::WebSafeBase64Unescape(part, &out)) return std::nullopt;
  if (absl::WebSafeBase64Escape(out) != part) return std::nullopt;
  return out;
}

std::optional<Json> ObjectOf(absl::string_view part) {
  const std::optional<std::string> text = Unescape(part);
  if (!text) return std::nullopt;
  Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  return json;
}

// Absent: none. Of another type: not a string.
absl::StatusOr<std::string> TextClaim(const Json& claims, const std::string& name) {
  const auto found = claims.find(name);
  if (found == claims.end()) return "";
  if (!found->is_string()) return Refused(absl::StrCat("claim ", name, " is not a string"));
  return found->get<std::string>();
}

// Seconds since 1970 (RFC 7519, NumericDate); fractions are allowed.
absl::StatusOr<std::optional<absl::Time>> TimeClaim(const Json& claims, const char* name) {
  const auto found = claims.find(name);
  if (found == claims.end()) return std::nullopt;
  const double seconds = found->is_number() ? found->get<double>() : std::nan("");
  if (!(std::abs(seconds) < 1e15)) return Refused(absl::StrCat("claim ", name, " is no time"));
  return absl::UnixEpoch() + absl::Seconds(seconds);
}

bool IsFor(const Json& claims, const std::string& audience) {
  const auto found = claims.find("aud");
  if (found == claims.end()) return false;
  if (found->is_string()) return found->get_ref<const std::string&>() == audience;
  if (!found->is_array()) return false;
  return std::any_of(found->begin(), found->end(), [&audience](const Json& one) {
    return one.is_string() && one.get_ref<const std::string&>() == audience;
  });
}

absl::StatusOr<absl::Time> CheckTimes(const Json& claims, const JwtPolicy& policy, absl::Time now) {
  ASSIGN_OR_RETURN(const std::optional<absl::Time> expires, TimeClaim(claims, "exp"));
  ASSIGN_OR_RETURN(const std::optional<absl::Time> not_before, TimeClaim(claims, "nbf"));
  ASSIGN_OR_RETURN(const std::optional<absl::Time> issued, TimeClaim(claims, "iat"));
  if (!expires) return Refused("it never ends: it has no claim exp");
  if (now >= *expires + policy.leeway) {
    return WithReasonName(
        Refused(absl::StrCat("it expired at ", absl::FormatTime(*expires, absl::UTCTimeZone()))),
        "TOKEN_EXPIRED");
  }
  for (const auto& begin : {not_before, issued}) {
    if (!begin || *begin <= now + policy.leeway) continue;
    return Refused(absl::StrCat("it is not good before ",
                                absl::FormatTime(*begin, absl::UTCTimeZone()),
                                "; do the clocks agree?"));
  }
  return *expires;
}

absl::StatusOr<std::vector<std::string>> Models(const Json& claims, const std::string& name) {
  std::vector<std::string> out;
  const auto found = claims.find(name);
  if (found == claims.end()) return out;
  const absl::Status wrong =
      Refused(absl::StrCat("claim ", name, " is not a list of 1 to ", kModelsMax, " names"));
  // An empty list would mean every model where it was to mean none.
  if (!found->is_array() || found->empty() || found->size() > kModelsMax) return wrong;
  for (const Json& one : *found) {
    if (!one.is_string()) return wrong;
    out.push_back(one.get<std::string>());
    if (out.back().empty() || out.back().size() > kModelBytesMax) return wrong;
  }
  return out;
}

absl::StatusOr<JwtIdentity> ReadClaims(const Json& claims, const JwtPolicy& policy,
                                       absl::Time now) {
  ASSIGN_OR_RETURN(const std::string issuer, TextClaim(claims, "iss"));
  if (issuer != policy.issuer) return Refused("it is from another issuer (claim iss)");
  if (!IsFor(claims, policy.audience)) return Refused("it is for another service (claim aud)");
  JwtIdentity out;
  ASSIGN_OR_RETURN(out.expires, CheckTimes(claims, policy, now));
  ASSIGN_OR_RETURN(out.subject, TextClaim(claims, "sub"));
  if (out.subject.empty() || out.subject.size() > kSubjectBytesMax) {
    return Refused(absl::StrCat("claim sub has to have 1 to ", kSubjectBytesMax, " bytes"));
  }
  ASSIGN_OR_RETURN(out.product_id, TextClaim(claims, policy.product_claim));
  ASSIGN_OR_RETURN(out.organisation_id, TextClaim(claims, policy.organisation_claim));
  if (out.product_id.empty() == out.organisation_id.empty()) {
    return Refused(absl::StrCat("it has to have either claim ", policy.product_claim, " or claim ",
                                policy.organisation_claim));
  }
  ASSIGN_OR_RETURN(out.models, Models(claims, policy.models_claim));
  return out;
}

absl::StatusOr<SignatureAlgorithm> AlgorithmOf(const Json& header, const JwtPolicy& policy) {
  // Extensions that a receiver must understand (RFC 7515, 4.1.11): none is.
  if (header.contains("crit")) return Refused("it has critical extensions, of which none is known");
  ASSIGN_OR_RETURN(const std::string name, TextClaim(header, "alg"));
  const auto algorithm = ParseSignatureAlgorithm(name);
  const auto& allowed = policy.algorithms;
  if (!algorithm.ok() || std::find(allowed.begin(), allowed.end(), *algorithm) == allowed.end()) {
    return Refused("it is signed by an algorithm that is not allowed here");
  }
  return *algorithm;
}

}  // namespace

bool LooksLikeJwt(absl::string_view text) {
  // What `{"` and `{ ` look like, which a header begins with.
  return absl::StartsWith(text, "ey") && std::count(text.begin(), text.end(), '.') == 2;
}

absl::StatusOr<JwtIdentity> VerifyJwt(absl::string_view text, const JwkSet& keys,
                                      const JwtPolicy& policy, absl::Time now) {
  if (text.size() > kTokenBytesMax) {
    return Refused(absl::StrCat("it has ", text.size(), " bytes; at most ", kTokenBytesMax));
  }
  const size_t first = text.find('.');
  const size_t second = first == text.npos ? text.npos : text.find('.', first + 1);
  if (second == text.npos || text.find('.', second + 1) != text.npos) {
    return Refused("it does not have three parts");
  }
  const absl::string_view payload = text.substr(first + 1, second - first - 1);
  const std::optional<Json> header = ObjectOf(text.substr(0, first));
  const std::optional<std::string> signature = Unescape(text.substr(second + 1));
  if (!header || !signature) return Refused("its header or signature can't be read");
  ASSIGN_OR_RETURN(const SignatureAlgorithm algorithm, AlgorithmOf(*header, policy));
  ASSIGN_OR_RETURN(const std::string id, TextClaim(*header, "kid"));

  std::vector<const Jwk*> candidates = keys.Find(id, algorithm);
  if (candidates.empty()) return absl::NotFoundError("the token's key is not among its issuer's");
  candidates.resize(std::min(candidates.size(), kTriesMax));
  const absl::string_view signed_text = text.substr(0, second);
  if (std::none_of(candidates.begin(), candidates.end(), [&](const Jwk* key) {
        return IsSignedBy(*key, algorithm, signed_text, *signature);
      })) {
    return Refused("its signature is not its issuer's");
  }
  // Nothing in it is believed before this.
  const std::optional<Json> claims = ObjectOf(payload);
  if (!claims) return Refused("its claims are not a JSON object");
  return ReadClaims(*claims, policy, now);
}

}  // namespace tandem
