#include "base/ids.h"

#include <gtest/gtest.h>

#include <set>

namespace tandem {
namespace {

TEST(Ids, AreThirtyTwoLowerCaseHexDigitsAndDiffer) {
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    const std::string id = NewRandomId();
    ASSERT_EQ(id.size(), 32);
    ASSERT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos) << id;
    seen.insert(id);
  }
  EXPECT_EQ(seen.size(), 1000);
}

TEST(Ids, IncarnationsDifferAndAreNeverZero) {
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(static_cast<uint64_t>(NewIncarnation()));
  EXPECT_EQ(seen.size(), 1000);
  EXPECT_EQ(seen.count(0), 0);
}

}  // namespace
}  // namespace tandem
