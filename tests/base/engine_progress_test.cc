#include "base/engine_progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

TEST(CheckProgress, AnEngineThatFinishesNoStepWithinTheLimitIsStuck) {
  const absl::Duration limit = absl::Seconds(30);
  EXPECT_THAT(CheckProgress({7, absl::ZeroDuration()}, limit), IsOk());
  EXPECT_THAT(CheckProgress({7, limit - absl::Milliseconds(1)}, limit), IsOk());
  EXPECT_THAT(CheckProgress({7, limit}, limit),
              StatusIs(absl::StatusCode::kUnavailable, "the engine has been at step 8 for 30s"));
}

TEST(CheckProgress, TheFirstStepMayTakeTenTimesAsLong) {
  const absl::Duration limit = absl::Seconds(30);
  EXPECT_THAT(CheckProgress({0, absl::Seconds(300) - absl::Milliseconds(1)}, limit), IsOk());
  EXPECT_THAT(CheckProgress({0, absl::Seconds(300)}, limit),
              StatusIs(absl::StatusCode::kUnavailable, "the engine has been at step 1 for 5m"));
}

TEST(CheckProgress, ALimitOfZeroIsNone) {
  EXPECT_THAT(CheckProgress({7, absl::Hours(1)}, absl::ZeroDuration()), IsOk());
  EXPECT_THAT(CheckProgress({0, absl::Hours(1)}, absl::ZeroDuration()), IsOk());
}

}  // namespace
}  // namespace tandem
