#include "router/limits/rule_book.h"

#include <algorithm>

namespace tandem {

void RuleBook::Remove(const std::string& id) {
  const auto where = where_.find(id);
  if (where == where_.end()) return;
  const auto subject = rules_.find(where->second);
  std::erase_if(subject->second, [&id](const LimitRule& rule) { return rule.id == id; });
  if (subject->second.empty()) rules_.erase(subject);
  where_.erase(where);
}

void RuleBook::Apply(absl::Span<const LimitRule> rules) {
  MutexLock lock(&mu_);
  for (const LimitRule& rule : rules) {
    Remove(rule.id);
    if (rule.removed) continue;
    const Subject subject(rule.scope, rule.subject);
    std::vector<LimitRule>& there = rules_[subject];
    there.insert(
        std::upper_bound(there.begin(), there.end(), rule,
                         [](const LimitRule& a, const LimitRule& b) { return a.id < b.id; }),
        rule);
    where_.emplace(rule.id, subject);
  }
}

std::vector<LimitRule> RuleBook::RulesFor(const LimitedCall& call) const {
  const Subject subjects[] = {{LimitScope::kCluster, ""},
                              {LimitScope::kModel, call.model},
                              {LimitScope::kOrganisation, call.organisation_id},
                              {LimitScope::kProduct, call.product_id},
                              {LimitScope::kKey, call.key_id}};
  std::vector<LimitRule> rules;
  MutexLock lock(&mu_);
  for (const Subject& subject : subjects) {
    const auto found = rules_.find(subject);
    if (found == rules_.end()) continue;
    rules.insert(rules.end(), found->second.begin(), found->second.end());
  }
  return rules;
}

}  // namespace tandem
