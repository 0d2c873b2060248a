#include "base/clock.h"

#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "tests/support/fake_clock.h"

namespace tandem {
namespace {

TEST(Clock, RealTimeIsNearTheWallClockAndNeverGoesBack) {
  EXPECT_LT(absl::AbsDuration(RealClock()->Now() - absl::Now()), absl::Seconds(5));
  absl::Time last = RealClock()->Now();
  for (int i = 0; i < 10000; ++i) {
    const absl::Time now = RealClock()->Now();
    ASSERT_LE(last, now);
    last = now;
  }
}

TEST(Clock, TheWallClockIsTheSystemsAtEachReading) {
  const absl::Time before = absl::Now();
  const absl::Time now = WallClock()->Now();
  EXPECT_LE(before, now);
  EXPECT_LE(now, absl::Now());
}

TEST(Clock, FakeTimeMovesOnlyWhenTold) {
  FakeClock clock;
  const absl::Time start = clock.Now();
  EXPECT_EQ(clock.Now(), start);
  clock.Advance(absl::Milliseconds(250));
  EXPECT_EQ(clock.Now() - start, absl::Milliseconds(250));
}

}  // namespace
}  // namespace tandem
