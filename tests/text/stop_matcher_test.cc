#include "text/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/support/status_matchers.h"
#include "tests/text/tiny_tokenizer.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

struct Outcome {
  std::string text;
  std::optional<size_t> matched;
};

// The definition, in so many words: the first byte at which some stop string ends; of those that
// end there, the longest.
Outcome Naive(const std::string& text, const StopMatcher::Options& options) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<size_t> best;
    for (size_t i = 0; i < options.stops.size(); ++i) {
      const std::string& stop = options.stops[i];
      const bool ends =
          stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0;
      if (ends && (!best || stop.size() > options.stops[*best].size())) best = i;
    }
    if (best) {
      const size_t size = options.include_stop ? end : end - options.stops[*best].size();
      return {text.substr(0, size), best};
    }
  }
  return {text, std::nullopt};
}

// True when some stop string begins with what `text` ends with, from byte `from` on.
bool MayBecomeAStop(const std::string& text, size_t from, const StopMatcher::Options& options) {
  for (const std::string& stop : options.stops) {
    if (stop.compare(0, text.size() - from, text, from, std::string::npos) == 0) return true;
  }
  return false;
}

TEST(StopMatcher, EqualsTheNaiveSearchHoweverTheTextIsCut) {
  std::mt19937 random(7);
  const std::vector<std::string> alphabet = {"a", "b", "ab", "\u00e9", "\u00e8", "\n"};
  for (int round = 0; round < 20000; ++round) {
    StopMatcher::Options options = {.include_stop = random() % 2 == 0};
    for (int i = static_cast<int>(random() % 4); i > 0; --i) {
      options.stops.push_back(RandomText(random, alphabet, 4) + alphabet[random() % 6]);
    }
    ASSERT_OK_AND_ASSIGN(StopMatcher matcher, StopMatcher::Create(options));
    std::string text, released;
    for (int piece = 0; piece < 6; ++piece) {
      const std::string delta = RandomText(random, alphabet, 4);
      text += delta;
      released += matcher.Push(delta);
      if (matcher.matched() || released.size() == text.size()) continue;
      ASSERT_TRUE(MayBecomeAStop(text, released.size(), options)) << "held back without need";
    }
    released += matcher.Finish();
    const Outcome want = Naive(text, options);
    ASSERT_EQ(released, want.text);
    ASSERT_EQ(matcher.matched(), want.matched);
    ASSERT_EQ(matcher.released_bytes(), static_cast<int64_t>(released.size()));
  }
}

TEST(StopMatcher, WithoutStopsEverythingPasses) {
  ASSERT_OK_AND_ASSIGN(StopMatcher matcher, StopMatcher::Create({}));
  EXPECT_EQ(matcher.Push("anything"), "anything");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcher, AfterAMatchNothingMoreComesOut) {
  ASSERT_OK_AND_ASSIGN(StopMatcher matcher, StopMatcher::Create({.stops = {"END"}}));
  EXPECT_EQ(matcher.Push("one E"), "one ");
  EXPECT_EQ(matcher.Push("N"), "");
  EXPECT_EQ(matcher.Push("D two"), "");
  EXPECT_EQ(matcher.matched(), 0);
  EXPECT_EQ(matcher.Push("three"), "");
  EXPECT_EQ(matcher.Finish(), "");
  EXPECT_EQ(matcher.released_bytes(), 4);
}

TEST(StopMatcher, TakesLinearTimeOnTextMadeToBacktrack) {
  const std::string stop = std::string(255, 'a') + "b";
  const std::vector<std::string> stops(StopMatcher::kMaxStops, stop);
  ASSERT_OK_AND_ASSIGN(StopMatcher matcher, StopMatcher::Create({.stops = stops}));
  size_t released = 0;
  for (int piece = 0; piece < 1000; ++piece)
    released += matcher.Push(std::string(1000, 'a')).size();
  EXPECT_EQ(released, 1000 * 1000 - 255);
}

TEST(StopMatcher, RefusesBadStopsByIndex) {
  const std::string longest(StopMatcher::kMaxStopBytes, 'x');
  EXPECT_THAT(StopMatcher::Check({"ok", longest}), IsOk());
  EXPECT_THAT(StopMatcher::Create({.stops = {"ok", ""}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("stop[1] is empty")));
  EXPECT_THAT(StopMatcher::Check({longest + "x"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("stop[0] has 257 bytes")));
  EXPECT_THAT(StopMatcher::Check(std::vector<std::string>(17, "x")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("17 strings")));
}

}  // namespace
}  // namespace tandem
