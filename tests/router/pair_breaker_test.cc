#include "router/placement/pair_breaker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fake_clock.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class PairBreakerTest : public ::testing::Test {
 protected:
  FakeClock clock_;
  PairBreaker breaker_{{.min_pause = absl::Seconds(10),  //
                        .max_pause = absl::Seconds(30),
                        .clock = &clock_}};
  const WorkerPair pair_ = {"p", "d"};
};

TEST_F(PairBreakerTest, APairThatFailsIsApartForAPauseAndNoOtherPairIs) {
  EXPECT_THAT(breaker_.Apart(), IsEmpty());
  breaker_.Failed(pair_);
  EXPECT_THAT(breaker_.Apart(), ElementsAre(pair_));
  clock_.Advance(absl::Seconds(10));
  EXPECT_THAT(breaker_.Apart(), IsEmpty());
}

TEST_F(PairBreakerTest, AfterThePauseOneRequestTriesForAll) {
  breaker_.Failed(pair_);
  clock_.Advance(absl::Seconds(10));
  breaker_.Tried(pair_);
  EXPECT_THAT(breaker_.Apart(), ElementsAre(pair_));
  breaker_.Worked(pair_);
  EXPECT_THAT(breaker_.Apart(), IsEmpty());
  breaker_.Tried(pair_);
  EXPECT_THAT(breaker_.Apart(), IsEmpty()) << "nothing was wrong with it";
}

TEST_F(PairBreakerTest, ATrialOfWhichNothingIsHeardIsFollowedByAnother) {
  breaker_.Failed(pair_);
  clock_.Advance(absl::Seconds(10));
  breaker_.Tried(pair_);
  clock_.Advance(absl::Seconds(10));
  EXPECT_THAT(breaker_.Apart(), IsEmpty());
}

TEST_F(PairBreakerTest, EachTrialThatFailsDoublesThePauseUpToALimit) {
  breaker_.Failed(pair_);
  breaker_.Failed(pair_);  // by a request that was under way
  for (const int pause : {10, 20, 30, 30}) {
    clock_.Advance(absl::Seconds(pause) - absl::Milliseconds(1));
    EXPECT_THAT(breaker_.Apart(), ElementsAre(pair_)) << pause;
    clock_.Advance(absl::Milliseconds(1));
    EXPECT_THAT(breaker_.Apart(), IsEmpty()) << pause;
    breaker_.Tried(pair_);
    breaker_.Failed(pair_);
  }
}

}  // namespace
}  // namespace tandem
