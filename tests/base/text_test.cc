#include <gtest/gtest.h>

#include "base/nearest.h"
#include "base/utf8.h"

namespace tandem {
namespace {

TEST(Suggest, NamesTheLikelyMisspellingElseTheChoice) {
  EXPECT_EQ(Suggest("thread", {"max_queue", "threads"}), "did you mean \"threads\"?");
  EXPECT_EQ(Suggest("treads", {"max_queue", "threads"}), "did you mean \"threads\"?");
  EXPECT_EQ(Suggest("zebra", {"max_queue", "threads", "role"}),
            "it can be max_queue, threads or role");
  EXPECT_EQ(Suggest(std::string(100000, 'a'), {"a"}), "it can be a");
}

TEST(Utf8, AcceptsWellFormedTextOnly) {
  for (const char* text : {"", "plain", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
                           "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(IsUtf8(text)) << text;
  }
  for (const char* text :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xff", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3", "\xe2\x82", "a\xf0\x9f\x98"}) {
    EXPECT_FALSE(IsUtf8(text)) << text;
  }
}

}  // namespace
}  // namespace tandem
