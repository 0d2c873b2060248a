// What every LimitStore keeps to.
#include "router/store/limit_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <memory>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "router/store/memory_limits.h"
#include "tests/support/fake_clock.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;
using Code = absl::StatusCode;

constexpr absl::Duration kLease = absl::Seconds(60);

LimitCharge PerMinute(const std::string& counter, int64_t amount, int64_t cost) {
  return {counter, LimitWindow::kMinute, amount, cost, cost};
}
LimitCharge PerMonth(const std::string& counter, int64_t amount, int64_t cost) {
  return {counter, LimitWindow::kMonth, amount, cost, cost};
}
LimitCharge AtOnce(const std::string& counter, int64_t amount) {
  return {counter, LimitWindow::kNone, amount, 1, 1};
}

class LimitStoreTest : public testing::Test {
 protected:
  LimitVerdict Reserve(const std::string& id, std::vector<LimitCharge> charges) {
    absl::StatusOr<LimitVerdict> got;
    store_.Reserve(id, std::move(charges), [&](auto verdict) { got = std::move(verdict); });
    EXPECT_THAT(got, IsOk());
    return got.value_or(LimitVerdict());
  }
  bool Admitted(const std::string& id, std::vector<LimitCharge> charges) {
    return Reserve(id, std::move(charges)).admitted;
  }
  absl::StatusOr<LimitVerdict> Extend(const std::string& id, std::vector<int64_t> costs) {
    absl::StatusOr<LimitVerdict> got;
    store_.Extend(id, std::move(costs), [&](auto verdict) { got = std::move(verdict); });
    return got;
  }
  absl::Status Renew(const std::string& id) {
    absl::Status got = absl::UnknownError("not called");
    store_.Renew(id, [&](absl::Status status) { got = std::move(status); });
    return got;
  }
  void Settle(const std::string& id, std::vector<int64_t> used) {
    absl::Status got = absl::UnknownError("not called");
    store_.Settle(id, std::move(used), [&](absl::Status status) { got = std::move(status); });
    EXPECT_THAT(got, IsOk());
  }
  // By the calendar, at once.
  void GoTo(absl::string_view when) {
    absl::Time time;
    std::string error;
    ASSERT_TRUE(absl::ParseTime(absl::RFC3339_full, when, &time, &error)) << error;
    wall_.Advance(time - wall_.Now());
  }
  // As time goes by where nobody sets a clock.
  void Pass(absl::Duration time) {
    clock_.Advance(time);
    wall_.Advance(time);
  }
  int64_t Left(const LimitCharge& charge) {
    LimitCharge nothing = charge;
    nothing.cost = nothing.least = 0;
    const std::string id = absl::StrCat("look", ++looks_);
    const int64_t left = Reserve(id, {nothing}).states.at(0).remaining;
    Settle(id, {0});
    return left;
  }

  FakeClock clock_, wall_;
  MemoryLimits store_{&clock_, {.lease = kLease, .wall = &wall_}};
  int looks_ = 0;
};

TEST_F(LimitStoreTest, ABucketHoldsItsAmountAndRefillsEvenly) {
  EXPECT_TRUE(Admitted("a", {PerMinute("k", 60, 59)}));
  EXPECT_TRUE(Admitted("b", {PerMinute("k", 60, 1)}));
  const LimitVerdict refused = Reserve("c", {PerMinute("k", 60, 3)});
  EXPECT_FALSE(refused.admitted);
  EXPECT_EQ(refused.states[0].remaining, 0);
  EXPECT_EQ(refused.states[0].retry_after, absl::Seconds(3));
  EXPECT_EQ(refused.states[0].reset, absl::Seconds(60));
  clock_.Advance(absl::Milliseconds(2999));
  EXPECT_FALSE(Admitted("c", {PerMinute("k", 60, 3)}));
  clock_.Advance(absl::Milliseconds(1));
  EXPECT_TRUE(Admitted("c", {PerMinute("k", 60, 3)}));
  clock_.Advance(absl::Hours(1));
  EXPECT_EQ(Left(PerMinute("k", 60, 0)), 60) << "and no more than that";
}

TEST_F(LimitStoreTest, AllAreChargedOrNone) {
  EXPECT_TRUE(Admitted("a", {PerMinute("tokens", 100, 100)}));
  const LimitVerdict refused =
      Reserve("b", {PerMinute("requests", 10, 1), AtOnce("calls", 4), PerMinute("tokens", 100, 1),
                    PerMonth("money", 50, 60)});
  EXPECT_FALSE(refused.admitted);
  EXPECT_TRUE(refused.states[0].fits && refused.states[1].fits);
  EXPECT_FALSE(refused.states[2].fits || refused.states[3].fits) << "each that fails is named";
  EXPECT_EQ(refused.states[3].retry_after, absl::InfiniteDuration()) << "it never will";
  EXPECT_EQ(Left(PerMinute("requests", 10, 0)), 10);
  EXPECT_EQ(Left(AtOnce("calls", 4)), 4);
  EXPECT_EQ(Left(PerMonth("money", 50, 0)), 50);
}

TEST_F(LimitStoreTest, WhatWasNotUsedComesBackAndWhatWasUsedBeyondIsADebt) {
  EXPECT_TRUE(Admitted("a", {PerMinute("k", 60, 50), PerMonth("m", 60, 50)}));
  Settle("a", {10, 10});
  EXPECT_EQ(Left(PerMinute("k", 60, 0)), 50);
  EXPECT_EQ(Left(PerMonth("m", 60, 0)), 50);
  EXPECT_TRUE(Admitted("b", {PerMinute("k", 60, 50), PerMonth("m", 60, 50)}));
  Settle("b", {70, 70});
  const LimitVerdict refused = Reserve("c", {PerMinute("k", 60, 1), PerMonth("m", 100, 1)});
  EXPECT_FALSE(refused.admitted);
  EXPECT_EQ(refused.states[0].retry_after, absl::Seconds(21)) << "20 that it owes, and its own";
  EXPECT_EQ(refused.states[1].remaining, 20) << "the amount was raised";
}

TEST_F(LimitStoreTest, WhatHasRefilledMeanwhileDoesNotComeBackToo) {
  EXPECT_TRUE(Admitted("slow", {PerMinute("k", 60, 40), PerMonth("m", 60, 40)}));
  clock_.Advance(absl::Seconds(30));
  EXPECT_EQ(Left(PerMinute("k", 60, 0)), 50);
  Settle("slow", {0, 0});
  EXPECT_NEAR(Left(PerMinute("k", 60, 0)), 60, 1) << "10 of the 40 were not refilled yet";
  EXPECT_EQ(Left(PerMonth("m", 60, 0)), 60) << "a month refills nothing";
}

TEST_F(LimitStoreTest, WhoIsContentWithLessGetsWhatIsLeft) {
  LimitCharge call = PerMinute("k", 60, 50);
  call.least = 20;
  EXPECT_EQ(Reserve("a", {call}).states[0].reserved, 50);
  EXPECT_FALSE(Admitted("b", {call})) << "10 are left";
  call.least = 10;
  const LimitVerdict verdict = Reserve("b", {call});
  EXPECT_EQ(verdict.states[0].reserved, 10);
  EXPECT_EQ(verdict.states[0].reset, absl::Minutes(1)) << "after it was charged";
  Settle("b", {3});
  EXPECT_EQ(Left(PerMinute("k", 60, 0)), 7);
}

TEST_F(LimitStoreTest, NothingTakesEffectTwice) {
  EXPECT_TRUE(Admitted("a", {PerMinute("k", 60, 50), AtOnce("calls", 1)}));
  const LimitVerdict again = Reserve("a", {PerMinute("k", 60, 50), AtOnce("calls", 1)});
  EXPECT_TRUE(again.admitted);
  EXPECT_EQ(again.states[0].remaining, 10);
  Settle("a", {20, 1});
  Settle("a", {60, 1});
  Settle("never there", {1});
  EXPECT_EQ(Left(PerMinute("k", 60, 0)), 40);
  EXPECT_EQ(Left(AtOnce("calls", 1)), 1);
}

TEST_F(LimitStoreTest, PlacesAreHeldUntilTheCallIsOver) {
  EXPECT_TRUE(Admitted("a", {AtOnce("calls", 2)}));
  EXPECT_TRUE(Admitted("b", {AtOnce("calls", 2)}));
  const LimitVerdict refused = Reserve("c", {AtOnce("calls", 2)});
  EXPECT_FALSE(refused.admitted);
  EXPECT_GT(refused.states[0].retry_after, absl::ZeroDuration());
  EXPECT_LT(refused.states[0].retry_after, absl::InfiniteDuration());
  clock_.Advance(kLease / 2);
  EXPECT_FALSE(Admitted("c", {AtOnce("calls", 2)})) << "a place does not refill";
  Settle("a", {0});
  EXPECT_TRUE(Admitted("c", {AtOnce("calls", 2)}));
}

TEST_F(LimitStoreTest, ACallOfWhichNothingIsHeardLosesItsPlaceAndKeepsItsCost) {
  EXPECT_TRUE(Admitted("a", {AtOnce("calls", 2), PerMonth("m", 100, 30)}));
  EXPECT_TRUE(Admitted("b", {AtOnce("calls", 2), PerMonth("m", 100, 30)}));
  clock_.Advance(kLease - absl::Nanoseconds(1));
  EXPECT_THAT(Renew("b"), IsOk());
  clock_.Advance(absl::Nanoseconds(1));
  EXPECT_THAT(Renew("a"), StatusIs(Code::kNotFound, HasSubstr("charge a")));
  EXPECT_THAT(Extend("a", {0, 1}), StatusIs(Code::kNotFound));
  Settle("a", {1, 0});
  EXPECT_EQ(Left(AtOnce("calls", 2)), 1);
  EXPECT_EQ(Left(PerMonth("m", 100, 0)), 40);
  clock_.Advance(kLease - absl::Nanoseconds(2));
  EXPECT_THAT(Renew("b"), IsOk());
}

TEST_F(LimitStoreTest, ARunningCallMayAskForMoreAndKeepsWhatItHasIfThereIsNone) {
  const std::vector<LimitCharge> charges = {PerMinute("k", 60, 20), AtOnce("calls", 1),
                                            PerMonth("m", 50, 20)};
  EXPECT_TRUE(Admitted("a", charges));
  ASSERT_OK_AND_ASSIGN(const LimitVerdict more, Extend("a", {20, 1, 20}));
  EXPECT_TRUE(more.admitted);
  EXPECT_EQ(more.states[0].remaining, 20);
  EXPECT_EQ(more.states[1].remaining, 0) << "one call, however often it asks";
  ASSERT_OK_AND_ASSIGN(const LimitVerdict none, Extend("a", {20, 1, 20}));
  EXPECT_FALSE(none.admitted) << "the month holds 10 more";
  EXPECT_EQ(Left(PerMinute("k", 60, 0)), 20);
  Settle("a", {35, 1, 35});
  EXPECT_EQ(Left(PerMinute("k", 60, 0)), 25);
  EXPECT_EQ(Left(PerMonth("m", 50, 0)), 15);
  EXPECT_EQ(Left(AtOnce("calls", 1)), 1);
}

TEST_F(LimitStoreTest, AShadowRefusesNobodyAndTakesOnlyWhatFits) {
  LimitCharge shadow = PerMinute("s", 10, 8);
  shadow.shadow = true;
  EXPECT_TRUE(Admitted("a", {shadow}));
  const LimitVerdict over = Reserve("b", {shadow, PerMinute("k", 60, 10)});
  EXPECT_TRUE(over.admitted);
  EXPECT_FALSE(over.states[0].fits);
  Settle("b", {9, 10});
  EXPECT_EQ(Left(PerMinute("s", 10, 0)), 2) << "the second was not counted";
  Settle("a", {0});
  EXPECT_EQ(Left(PerMinute("s", 10, 0)), 10);
}

TEST_F(LimitStoreTest, AnAmountOfZeroRefusesEverything) {
  for (const LimitWindow window :
       {LimitWindow::kNone, LimitWindow::kMinute, LimitWindow::kDay, LimitWindow::kMonth}) {
    const LimitVerdict refused =
        Reserve("a", {{absl::StrCat(static_cast<int>(window)), window, 0, 0}});
    EXPECT_FALSE(refused.admitted);
    EXPECT_EQ(refused.states[0].retry_after, absl::InfiniteDuration());
  }
}

TEST_F(LimitStoreTest, MonthsAndDaysAreThoseOfTheCalendarInUtc) {
  GoTo("2028-02-29T23:59:59.999Z");
  const LimitCharge day = {"d", LimitWindow::kDay, 10, 10, 10};
  EXPECT_TRUE(Admitted("a", {day, PerMonth("m", 10, 10)}));
  const LimitVerdict refused = Reserve("b", {day, PerMonth("m", 10, 10)});
  EXPECT_FALSE(refused.admitted);
  EXPECT_EQ(refused.states[0].retry_after, absl::Milliseconds(1));
  EXPECT_EQ(refused.states[1].reset, absl::Milliseconds(1));
  Pass(absl::Milliseconds(1));
  EXPECT_TRUE(Admitted("b", {day, PerMonth("m", 10, 4)}));
  EXPECT_EQ(Left(PerMonth("m", 10, 0)), 6);
  Settle("a", {1, 1});
  EXPECT_EQ(Left(PerMonth("m", 10, 0)), 6) << "what comes back is February's";
  ASSERT_OK_AND_ASSIGN(const LimitVerdict more, Extend("b", {0, 5}));
  EXPECT_TRUE(more.admitted);
  GoTo("2028-03-26T01:30:00Z");  // clocks go forward in Europe
  EXPECT_EQ(Reserve("c", {{day.counter, day.window, 10, 11, 11}}).states[0].reset,
            absl::Minutes(22 * 60 + 30));
  GoTo("2028-12-31T23:59:59Z");
  EXPECT_EQ(Reserve("d", {PerMonth("m", 10, 1)}).states[0].reset, absl::Seconds(1));
}

// Time:      Feb ........| Mar ......    the clock is set back, and reaches March again
// Counts of  Feb 6           Mar 8       Feb 6 + 3     Mar 8
TEST_F(LimitStoreTest, EachMonthGivesItsAmountOnceHoweverTheClockIsSet) {
  GoTo("2028-02-29T23:59:50Z");
  EXPECT_TRUE(Admitted("feb", {PerMonth("m", 10, 6)}));
  Pass(absl::Seconds(20));
  EXPECT_TRUE(Admitted("mar", {PerMonth("m", 10, 8)}));
  wall_.Advance(-absl::Seconds(15));
  EXPECT_EQ(Left(PerMonth("m", 10, 0)), 4) << "it is February again, and what it had is used";
  EXPECT_TRUE(Admitted("feb again", {PerMonth("m", 10, 3)}));
  Pass(absl::Seconds(5));
  EXPECT_EQ(Left(PerMonth("m", 10, 0)), 2) << "March goes on";
  Settle("feb", {1});
  EXPECT_EQ(Left(PerMonth("m", 10, 0)), 2) << "what comes back is February's";
  GoTo("2028-02-01T00:00:00Z");
  EXPECT_EQ(Left(PerMonth("m", 10, 0)), 6);
}

TEST_F(LimitStoreTest, AClockThatWasTooFarAheadStopsNobodyForLong) {
  const LimitCharge day = {"d", LimitWindow::kDay, 10, 10, 10};
  GoTo("2028-03-01T12:00:00Z");
  EXPECT_TRUE(Admitted("a", {day}));
  GoTo("2038-03-01T12:00:00Z");
  EXPECT_TRUE(Admitted("b", {day}));
  GoTo("2028-03-01T13:00:00Z");
  EXPECT_FALSE(Admitted("c", {day})) << "this day's is used";
  Pass(absl::Hours(11));
  EXPECT_TRUE(Admitted("c", {day}));
}

TEST_F(LimitStoreTest, AClockThatIsSetMovesNoBucketAndNoLease) {
  EXPECT_TRUE(Admitted("a", {PerMinute("k", 60, 30), AtOnce("calls", 1)}));
  for (const absl::Duration step : {-absl::Hours(100), absl::Hours(1000)}) {
    wall_.Advance(step);
    EXPECT_EQ(Left(PerMinute("k", 60, 0)), 30);
    EXPECT_EQ(Left(AtOnce("calls", 1)), 0);
  }
  clock_.Advance(absl::Seconds(10));
  EXPECT_EQ(Left(PerMinute("k", 60, 0)), 40);
}

TEST_F(LimitStoreTest, AnAmountMayChangeWhileCallsRun) {
  EXPECT_TRUE(Admitted("a", {PerMinute("k", 100, 30), AtOnce("calls", 2)}));
  EXPECT_EQ(Left(PerMinute("k", 50, 0)), 50) << "a smaller bucket holds what was in the larger";
  Settle("a", {30, 1});
  EXPECT_EQ(Left(PerMinute("k", 50, 0)), 50) << "what began with the larger changes nothing";
  EXPECT_EQ(Left(PerMinute("k", 200, 0)), 200);
  EXPECT_TRUE(Admitted("a", {PerMinute("k", 200, 0), AtOnce("calls", 2)}));
  EXPECT_TRUE(Admitted("b", {PerMinute("k", 200, 150), AtOnce("calls", 2)}));
  EXPECT_EQ(Left(PerMinute("k", 100, 0)), 50);
  EXPECT_FALSE(Admitted("c", {AtOnce("calls", 1)})) << "two run, and none is cut off";
  EXPECT_EQ(Left(AtOnce("calls", 1)), 0);
}

TEST_F(LimitStoreTest, HugeAndTinyAmountsAreExact) {
  constexpr int64_t kHuge = 9'000'000'000'000'000;
  EXPECT_TRUE(Admitted("a", {PerMinute("k", kHuge, kHuge - 1)}));
  EXPECT_FALSE(Admitted("b", {PerMinute("k", kHuge, 2)}));
  EXPECT_TRUE(Admitted("b", {PerMinute("k", kHuge, 1)}));
  EXPECT_TRUE(Admitted("c", {PerMinute("tiny", 7, 7)}));
  Settle("c", {kHuge});
  const LimitState state = Reserve("d", {PerMinute("tiny", 7, 1)}).states[0];
  EXPECT_FALSE(state.fits);
  EXPECT_GT(state.retry_after, absl::Hours(24 * 364));
  EXPECT_LT(state.retry_after, absl::InfiniteDuration());
}

// Looked at often, a bucket loses nothing to rounding.
TEST_F(LimitStoreTest, LookingOftenCostsNothing) {
  for (const int64_t amount : {7, 1000, 999'983, 70'000'001}) {
    const std::string counter = absl::StrCat(amount);
    EXPECT_TRUE(Admitted(counter, {PerMinute(counter, amount, amount)}));
    for (int i = 0; i < 10'000; ++i) {
      clock_.Advance(absl::Microseconds(3000));
      EXPECT_TRUE(i % 100 != 0 || !Admitted("too much", {PerMinute(counter, amount, amount + 1)}));
    }
    EXPECT_NEAR(Left(PerMinute(counter, amount, 0)), amount / 2, 1 + amount * 1e-6);
  }
}

// However it is asked, in no stretch of time more is given than a full bucket and what refills in
// it; and who comes back when it was told to is let in.
TEST_F(LimitStoreTest, NoWalkGetsMoreThanItsBucketAndItsRefill) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::vector<std::string> ids;
    const int64_t amount = 1 + random() % 200;
    const std::string counter = absl::StrCat("walk", seed);
    struct Given {
      absl::Time when;
      int64_t tokens;
    };
    std::vector<Given> given;  // what was used of each call, or reserved while it runs
    std::deque<size_t> running;
    const auto admit = [&](int i, int64_t cost) {
      running.push_back(given.size());
      given.push_back({clock_.Now(), cost});
      ids.push_back(absl::StrCat(counter, "/", i));
    };
    for (int i = 0; i < 400; ++i) {
      clock_.Advance(absl::Milliseconds(random() % 2000));
      const std::string id = absl::StrCat(counter, "/", i);
      const int64_t cost = random() % (amount + 1);
      const LimitVerdict asked = Reserve(id, {PerMinute(counter, amount, cost)});
      if (asked.admitted) {
        admit(i, cost);
      } else if (random() % 4 == 0) {
        clock_.Advance(asked.states[0].retry_after);
        ASSERT_TRUE(Admitted(id, {PerMinute(counter, amount, cost)}));
        admit(i, cost);
      }
      if (!running.empty() && random() % 3 == 0) {
        const size_t done = running.front();
        given[done].tokens = random() % (given[done].tokens + 1);
        Settle(ids[done], {given[done].tokens});
        running.pop_front();
      }
      double sum = 0;
      for (auto it = given.rbegin(); it != given.rend(); ++it) {
        sum += it->tokens;
        const double minutes = absl::ToDoubleMinutes(clock_.Now() - it->when);
        ASSERT_LE(sum, amount * (1 + minutes) + 1e-6);
      }
    }
  }
}

TEST_F(LimitStoreTest, CallsAtOnceNeverPassALimitTogether) {
  constexpr int kThreads = 8, kCalls = 500;
  for (const LimitCharge& limit :
       {PerMinute("k", 1000, 1), PerMonth("m", 1000, 1), AtOnce("calls", 1000)}) {
    std::atomic<int> admitted = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kCalls; ++i) {
          store_.Reserve(absl::StrCat(limit.counter, t, "/", i), {limit},
                         [&](auto verdict) { admitted += verdict->admitted; });
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(admitted, 1000);
  }
}

TEST(MemoryLimits, RemembersOnlyWhatIsInUse) {
  FakeClock clock, wall;
  MemoryLimits store(&clock, {.lease = kLease, .wall = &wall});
  for (int i = 0; i < 20'000; ++i) {
    const std::string id = absl::StrCat(i);
    store.Reserve(id, {PerMinute(id, 60, 1), AtOnce("calls" + id, 4)}, [](auto) {});
    if (i % 2 == 0) store.Settle(id, {1, 1}, [](auto) {});
  }
  EXPECT_EQ(store.charges(), 10'000u);
  EXPECT_EQ(store.counters(), 30'000u);
  clock.Advance(kLease);
  EXPECT_EQ(store.charges(), 0u);
  EXPECT_EQ(store.counters(), 0u);
}

TEST(MemoryLimits, RemembersADayThatIsOverForAWeek) {
  FakeClock clock, wall;
  MemoryLimits store(&clock, {.lease = kLease, .wall = &wall});
  store.Reserve("a", {{"d", LimitWindow::kDay, 10, 10, 10}}, [](auto) {});
  wall.Advance(absl::Hours(24));
  EXPECT_EQ(store.counters(), 1u) << "the clock may be set back";
  for (int day = 0; day < 7; ++day) {
    EXPECT_EQ(store.counters(), 1u);
    clock.Advance(absl::Hours(24));
  }
  EXPECT_EQ(store.counters(), 0u);
}

}  // namespace
}  // namespace tandem
