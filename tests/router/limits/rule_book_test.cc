#include "router/limits/rule_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const LimitedCall kCall = {"acme", "chat", "k1", "smol"};

LimitRule Rule(const std::string& id, LimitScope scope, const std::string& subject) {
  return {.id = id, .scope = scope, .subject = subject, .amount = 1};
}

std::vector<std::string> Ids(const RuleBook& book, const LimitedCall& call) {
  std::vector<std::string> ids;
  for (const LimitRule& rule : book.RulesFor(call)) ids.push_back(rule.id);
  return ids;
}

TEST(RuleBook, ACallIsUnderTheLimitsOfAllThatItIsOf) {
  RuleBook book;
  EXPECT_THAT(Ids(book, kCall), IsEmpty());
  book.Apply(
      {Rule("key", LimitScope::kKey, "k1"), Rule("other", LimitScope::kKey, "k2"),
       Rule("product", LimitScope::kProduct, "chat"),
       Rule("organisation", LimitScope::kOrganisation, "acme"),
       Rule("model-b", LimitScope::kModel, "smol"), Rule("model-a", LimitScope::kModel, "smol"),
       Rule("named alike", LimitScope::kProduct, "k1"), Rule("cluster", LimitScope::kCluster, "")});
  EXPECT_THAT(Ids(book, kCall),
              ElementsAre("cluster", "model-a", "model-b", "organisation", "product", "key"));
  EXPECT_THAT(Ids(book, {"acme", "x", "x", "x"}), ElementsAre("cluster", "organisation"));
}

TEST(RuleBook, ARuleIsReplacedMovedAndRemovedByItsId) {
  RuleBook book;
  LimitRule rule = Rule("a", LimitScope::kKey, "k1");
  book.Apply({rule, rule});
  EXPECT_THAT(Ids(book, kCall), ElementsAre("a"));
  rule.amount = 7;
  book.Apply({rule});
  EXPECT_EQ(book.RulesFor(kCall).at(0).amount, 7);
  rule.scope = LimitScope::kCluster;
  rule.subject = "";
  book.Apply({rule});
  EXPECT_THAT(Ids(book, {"", "", "", ""}), ElementsAre("a"));
  rule.removed = true;
  book.Apply({rule});
  book.Apply({rule});
  EXPECT_THAT(Ids(book, kCall), IsEmpty());
}

}  // namespace
}  // namespace tandem
