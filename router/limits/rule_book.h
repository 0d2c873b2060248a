#pragma once
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "router/store/limit_rule.h"

namespace tandem {

// Whom a call is of, by the ids that rules name.
struct LimitedCall {
  std::string organisation_id, product_id, key_id;
  std::string model;
};

// The limits there are, as the store last told of them.
//   threads any
class RuleBook {
 public:
  // Each replaces what was there under its id; removed ones go.
  void Apply(absl::Span<const LimitRule> rules) ABSL_LOCKS_EXCLUDED(mu_);
  // All that hold for the call, each once: of the cluster, the model, the organisation, the product
  // and the key, in this order, and by id within each.
  std::vector<LimitRule> RulesFor(const LimitedCall& call) const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  using Subject = std::pair<LimitScope, std::string>;
  void Remove(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_;
  absl::flat_hash_map<Subject, std::vector<LimitRule>> rules_ ABSL_GUARDED_BY(mu_);  // by id
  absl::flat_hash_map<std::string, Subject> where_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem
