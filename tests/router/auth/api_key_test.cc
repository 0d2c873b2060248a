#include "router/auth/api_key.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(ApiKey, ItsTextComesBackAsItWas) {
  std::set<std::string> seen;
  for (const std::string& id : {std::string("a"), std::string("team-1"), std::string("with_under_"),
                                std::string("d.o.t"), std::string(64, 'x')}) {
    const ApiKey key = NewApiKey(id);
    const std::string text = TextOf(key);
    EXPECT_EQ(text.size(), 4 + id.size() + 1 + 48);
    ASSERT_OK_AND_ASSIGN(const ApiKey parsed, ParseApiKey(text));
    EXPECT_EQ(parsed.id, id);
    EXPECT_EQ(parsed.secret, key.secret);
    EXPECT_TRUE(SameDigest(SecretDigest(parsed), SecretDigest(key)));
    EXPECT_TRUE(seen.insert(text).second);
  }
}

TEST(ApiKey, EachKeyHasASecretOfItsOwn) {
  const ApiKey one = NewApiKey("a"), other = NewApiKey("a");
  EXPECT_FALSE(SameDigest(SecretDigest(one), SecretDigest(other)));
  EXPECT_FALSE(SameDigest(SecretDigest(one), SecretDigest({"b", one.secret})));
}

TEST(ApiKey, AnyChangedCharacterIsSeenAndNeverRepeated) {
  const std::string text = TextOf(NewApiKey("team"));
  for (size_t i = 0; i < text.size(); ++i) {
    for (const char c : {'A', 'z', '_', '-', '\0', '=', ' '}) {
      std::string changed = text;
      if (changed[i] == c) continue;
      changed[i] = c;
      const absl::StatusOr<ApiKey> parsed = ParseApiKey(changed);
      ASSERT_THAT(parsed, StatusIs(absl::StatusCode::kUnauthenticated)) << i;
      EXPECT_THAT(std::string(parsed.status().message()), Not(HasSubstr("team"))) << i;
    }
    EXPECT_FALSE(ParseApiKey(text.substr(0, i)).ok());
    EXPECT_FALSE(ParseApiKey(text.substr(i + 1)).ok());
  }
  for (const std::string& junk :
       {std::string(), std::string("tdm_"), text + "A", " " + text, "tdm__" + text.substr(9),
        std::string(10 << 20, 'x'), "tdm_" + std::string(65, 'x') + text.substr(8)}) {
    EXPECT_FALSE(ParseApiKey(junk).ok());
  }
}

}  // namespace
}  // namespace tandem
