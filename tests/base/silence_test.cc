#include "base/silence.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1'800'000'000);

TEST(Silence, LastsFromTheLastWordToTheLimit) {
  Silence silence({.interval = absl::Seconds(1), .missed = 3}, kStart);
  absl::Time now = kStart;
  for (int word = 0; word < 4; ++word) {
    for (int look = 1; look < 12; ++look) {
      EXPECT_FALSE(silence.Look(now += absl::Milliseconds(250))) << word << ", " << look;
    }
    if (word < 3) silence.Heard(now);
  }
  EXPECT_TRUE(silence.Look(now += absl::Milliseconds(250)));
}

TEST(Silence, OfAProcessThatWasStoppedItselfIsNotThePeers) {
  Silence silence({.interval = absl::Seconds(1), .missed = 3}, kStart);
  const absl::Time woken = kStart + absl::Hours(1);
  EXPECT_FALSE(silence.Look(woken));
  EXPECT_FALSE(silence.Look(woken + absl::Milliseconds(250)));
  silence.Heard(woken + absl::Milliseconds(300));
  EXPECT_FALSE(silence.Look(woken + absl::Milliseconds(3200)));
}

}  // namespace
}  // namespace tandem
