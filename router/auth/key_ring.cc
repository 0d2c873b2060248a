#include "router/auth/key_ring.h"

#include <algorithm>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "router/auth/api_key.h"

namespace tandem {
namespace {

absl::Status NotValid() { return absl::UnauthenticatedError("this API key is not valid"); }

absl::Status CheckTimes(const Key& key, const KeySecret& secret, absl::Time now) {
  if (key.revoked_at) {
    return absl::UnauthenticatedError(
        absl::StrCat("key ", key.id, " was revoked at ", absl::FormatTime(*key.revoked_at)));
  }
  for (const std::optional<absl::Time>& end : {key.expires, secret.expires}) {
    if (!end || now < *end) continue;
    return absl::UnauthenticatedError(
        absl::StrCat("key ", key.id, " expired at ", absl::FormatTime(*end)));
  }
  return absl::OkStatus();
}

absl::Status Disabled(absl::string_view what, absl::string_view id) {
  return absl::UnauthenticatedError(absl::StrCat(what, " ", id, " is disabled"));
}

}  // namespace

bool Principal::Allows(absl::string_view model) const {
  if (kind != KeyKind::kUser) return false;
  return models == nullptr || std::find(models->begin(), models->end(), model) != models->end();
}

KeyRing::Entry::Entry(const Key& of)
    : key(of),
      models(of.models.empty() ? nullptr
                               : std::make_shared<const std::vector<std::string>>(of.models)) {}

void KeyRing::Apply(const Changes& changes) {
  MutexLock lock(&mu_);
  for (const Record& record : changes.records) {
    if (const auto* organisation = std::get_if<Organisation>(&record)) {
      organisations_.insert_or_assign(organisation->id, *organisation);
    } else if (const auto* product = std::get_if<Product>(&record)) {
      products_.insert_or_assign(product->id, *product);
    } else if (const auto* key = std::get_if<Key>(&record)) {
      keys_.insert_or_assign(key->id, std::make_shared<const Entry>(*key));
    }
  }
  revision_ = changes.revision;
}

int64_t KeyRing::revision() const {
  MutexLock lock(&mu_);
  return revision_;
}

size_t KeyRing::keys() const {
  MutexLock lock(&mu_);
  return keys_.size();
}

std::shared_ptr<const KeyRing::Entry> KeyRing::Find(absl::string_view id) const {
  MutexLock lock(&mu_);
  const auto found = keys_.find(id);
  return found == keys_.end() ? nullptr : found->second;
}

absl::StatusOr<Principal> KeyRing::Authenticate(absl::string_view text, absl::Time now) const {
  ASSIGN_OR_RETURN(const ApiKey key, ParseApiKey(text));
  const Sha256Digest given = SecretDigest(key);
  const std::shared_ptr<const Entry> entry = Find(key.id);
  // As many comparisons for every key: those that are missing fail.
  const KeySecret* matched = nullptr;
  for (size_t i = 0; i < kKeySecretsMax; ++i) {
    const bool there = entry != nullptr && i < entry->key.secrets.size();
    const Sha256Digest none{};
    const bool same = SameDigest(given, there ? entry->key.secrets[i].sha256 : none);
    if (same && there) matched = &entry->key.secrets[i];
  }
  if (matched == nullptr) return NotValid();
  RETURN_IF_ERROR(CheckTimes(entry->key, *matched, now));
  return Complete({entry->key.kind, entry->key.organisation_id, entry->key.product_id,
                   entry->key.id, entry->models});
}

absl::StatusOr<Principal> KeyRing::Complete(Principal principal) const {
  MutexLock lock(&mu_);
  if (principal.kind == KeyKind::kUser) {
    const auto product = products_.find(principal.product_id);
    if (product == products_.end()) return NotValid();
    if (product->second.disabled) return Disabled("product", product->first);
    principal.organisation_id = product->second.organisation_id;
  } else if (principal.organisation_id.empty()) {
    return principal;
  }
  const auto organisation = organisations_.find(principal.organisation_id);
  if (organisation == organisations_.end()) return NotValid();
  if (organisation->second.disabled) return Disabled("organisation", organisation->first);
  return principal;
}

}  // namespace tandem
