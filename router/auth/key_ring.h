#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "router/auth/principal.h"
#include "router/store/store.h"

namespace tandem {

// All keys and whom they belong to, as the store last told of them, so that a call is authenticated
// without asking it.
//   errors  Unauthenticated: the same message for an unknown id and a wrong secret, after the same
//           work, so that nobody learns which ids exist. Who has the right secret is told what is
//           wrong with the key: that it is expired, revoked, or its owner disabled
//   threads any
class KeyRing {
 public:
  // What has changed in the store, from the beginning on, in order.
  void Apply(const Changes& changes) ABSL_LOCKS_EXCLUDED(mu_);
  // Where to ask for more.
  int64_t revision() const ABSL_LOCKS_EXCLUDED(mu_);

  // Whose key this text is, at `now` by the wall clock.
  absl::StatusOr<Principal> Authenticate(absl::string_view text, absl::Time now) const
      ABSL_LOCKS_EXCLUDED(mu_);

  // The same for who proved to be someone in another way: of a user the product is given, of a
  // manager the organisation, or none for the whole cluster.
  absl::StatusOr<Principal> Complete(Principal principal) const ABSL_LOCKS_EXCLUDED(mu_);

  size_t keys() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Entry {
    explicit Entry(const Key& of);
    const Key key;
    const std::shared_ptr<const std::vector<std::string>> models;
  };
  std::shared_ptr<const Entry> Find(absl::string_view id) const ABSL_LOCKS_EXCLUDED(mu_);
  mutable Mutex mu_;
  int64_t revision_ ABSL_GUARDED_BY(mu_) = 0;
  absl::flat_hash_map<std::string, Organisation> organisations_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<std::string, Product> products_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<std::string, std::shared_ptr<const Entry>> keys_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem
