#include "router/placement/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// "p", "d" or "u" for the role, then what differs.
struct Worker {
  char role;
  uint64_t tokens = 0;
  std::string kv_abi = "a";
  WorkerState state = WorkerState::kReady;
  std::string model = "m";
  uint32_t max_context = 1000;
  uint32_t max_sequences = 8;
};

std::vector<WorkerView> Views(const std::vector<Worker>& workers) {
  std::vector<WorkerView> views;
  for (const Worker& worker : workers) {
    auto facts = std::make_shared<WorkerFacts>();
    facts->address = std::string(1, worker.role) + std::to_string(views.size());
    facts->role = worker.role == 'p'   ? WorkerRole::kPrefill
                  : worker.role == 'd' ? WorkerRole::kDecode
                                       : WorkerRole::kUnified;
    facts->state = worker.state;
    facts->detail = worker.state == WorkerState::kReady ? "" : "some reason";
    facts->model = worker.model;
    facts->revision = "r";
    facts->kv_abi = worker.kv_abi;
    facts->handoff_address = facts->address;
    facts->block_tokens = 16;
    facts->blocks = 100;  // 1600 tokens
    facts->max_context = worker.max_context;
    facts->max_sequences = worker.max_sequences;
    views.push_back({std::move(facts), worker.tokens});
  }
  return views;
}

// "p1>d0" for a pair, "u2" for one worker, or the error.
std::string Picked(const std::vector<Worker>& workers, PlacementCall call = {"m", "r", 10, 20}) {
  const std::vector<WorkerView> views = Views(workers);
  const absl::StatusOr<Placement> placed = Pick(views, call);
  if (!placed.ok()) return placed.status().ToString();
  const std::string decode = views[placed->decode].facts->address;
  return placed->prefill ? views[*placed->prefill].facts->address + ">" + decode : decode;
}

TEST(Policy, SplitsWhereAPairWithOneKvAbiIsReady) {
  EXPECT_EQ(Picked({{'p'}, {'d'}}), "p0>d1");
  EXPECT_EQ(Picked({{'u'}, {'d'}, {'p'}}), "p2>d1");
}

TEST(Policy, TakesTheLeastLoadedOfEachRole) {
  EXPECT_EQ(Picked({{'p', 5}, {'d', 7}, {'p', 4}, {'d', 6}}), "p2>d3");
  EXPECT_EQ(Picked({{'u', 5}, {'u', 4}, {'u', 4}}), "u1");
}

TEST(Policy, AvoidsAWorkerWhileThereIsAnotherAndThenTakesItAlone) {
  PlacementCall call = {"m", "r", 10, 20};
  call.avoid = {"d1"};
  EXPECT_EQ(Picked({{'p'}, {'d', 0}, {'d', 9}}, call), "p0>d2");
  EXPECT_EQ(Picked({{'p'}, {'d'}}, call), "p0") << "it can do both";
  call.avoid = {"d1", "p0"};
  EXPECT_EQ(Picked({{'p', 4}, {'d', 3}}, call), "d1") << "the least loaded of those to avoid";
}

TEST(Policy, NeverTakesAnExcludedWorker) {
  PlacementCall call = {"m", "r", 10, 20};
  call.exclude = {"u0"};
  EXPECT_EQ(Picked({{'u', 0}, {'u', 9}}, call), "u1");
  EXPECT_THAT(Picked({{'u'}}, call), HasSubstr("UNAVAILABLE"));
}

TEST(Policy, ARequestThatGoesOnStaysWithItsArithmeticAndMayNeedOneWorkerForAll) {
  PlacementCall call = {"m", "r", 10, 20};
  call.kv_abi = "b";
  EXPECT_EQ(Picked({{'u', 0, "a"}, {'u', 9, "b"}}, call), "u1");
  EXPECT_THAT(Picked({{'u', 0, "a"}}, call), HasSubstr("UNAVAILABLE"));
  call.kv_abi = "a";
  call.whole = true;
  EXPECT_EQ(Picked({{'p'}, {'d'}}, call), "d1");
}

TEST(Policy, NeverPairsWorkersWhoseCachesDiffer) {
  EXPECT_EQ(Picked({{'p', 0, "a"}, {'d', 0, "b"}, {'d', 9, "a"}}), "p0>d2");
  EXPECT_EQ(Picked({{'p', 0, "a"}, {'d', 0, "b"}}), "d1");  // it can do both
}

TEST(Policy, TakesNoPairThatIsToStayApart) {
  PlacementCall call = {"m", "r", 10, 20};
  call.apart = {{"p0", "d1"}};
  EXPECT_EQ(Picked({{'p'}, {'d'}}, call), "d1") << "it can do both";
  EXPECT_EQ(Picked({{'p'}, {'d'}, {'p', 9}}, call), "p2>d1");
  EXPECT_EQ(Picked({{'p'}, {'d'}, {'d', 9}}, call), "p0>d2");
}

TEST(Policy, OneWorkerDoesBothWhereThereIsNoPair) {
  EXPECT_EQ(Picked({{'p'}}), "p0");
  EXPECT_EQ(Picked({{'p', 0}, {'u', 9}}), "u1");
}

TEST(Policy, LeavesOutWorkersThatAreNotReadyOrServeOtherThings) {
  EXPECT_EQ(Picked({{'u', 0, "a", WorkerState::kDraining}, {'u', 9}}), "u1");
  EXPECT_EQ(Picked({{'u', 0, "a", WorkerState::kStuck}, {'u', 9}}), "u1");
  EXPECT_EQ(Picked({{'p', 0, "a", WorkerState::kLost}, {'d', 9}}), "d1");
  EXPECT_EQ(Picked({{'u', 0, "a", WorkerState::kReady, "other"}, {'u', 9}}), "u1");
}

TEST(Policy, LeavesOutWorkersThatAreTooSmall) {
  const std::vector<Worker> workers = {{'u', 0, "a", WorkerState::kReady, "m", 100}, {'u', 9}};
  EXPECT_EQ(Picked(workers, {"m", "r", 80, 20}), "u0");
  EXPECT_EQ(Picked(workers, {"m", "r", 80, 21}), "u1");
}

TEST(Policy, ANeedThatNoWorkerCanMeetIsTheRequestsFault) {
  EXPECT_THAT(Pick(Views({{'u'}}), {"m", "r", 800, 300}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("1100 tokens"), HasSubstr("room for 1000"))));
}

TEST(Policy, ANeedThatAWorkerCanMeetOnceItIsBackIsNotTheRequestsFault) {
  const auto pick = [](WorkerState larger) {
    return Pick(Views({{'u', 0, "a", WorkerState::kReady, "m", 100}, {'u', 0, "a", larger}}),
                {"m", "r", 100, 100});
  };
  EXPECT_THAT(pick(WorkerState::kLost),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("200 tokens"), HasSubstr("u1 (unified of m): lost"))));
  EXPECT_THAT(pick(WorkerState::kIncompatible),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("room for 100")));
}

TEST(Policy, WithNoReadyWorkerEachIsNamedWithItsState) {
  EXPECT_THAT(
      Pick(Views({{'u', 0, "a", WorkerState::kLost}, {'d', 0, "a", WorkerState::kDraining}}),
           {"m", "r", 1, 1}),
      StatusIs(absl::StatusCode::kUnavailable,
               AllOf(HasSubstr("u0 (unified of m): lost, some reason"),
                     HasSubstr("d1 (decode of m): draining"))));
  EXPECT_THAT(Pick({}, {"m", "r", 1, 1}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no worker address is known")));
}

// A worker here has 100 blocks of 16 tokens; what is full of the prompt alone is needed once.
TEST(Policy, OutputsNeedRoomTogetherAndAPlaceEach) {
  WorkerFacts facts = *Views({{'u'}})[0].facts;
  facts.max_context = 5000;
  EXPECT_EQ(Capacity(facts), 1600u);
  EXPECT_EQ(Capacity(facts, 500), 1600u);
  EXPECT_EQ(Capacity(facts, 500, 4), (31 + 69 / 4) * 16u);
  EXPECT_EQ(Capacity(facts, 9000, 4), 1600u);
  EXPECT_EQ(Picked({{'u'}}, {"m", "r", 500, 268, 4}), "u0");
  EXPECT_THAT(Picked({{'u'}}, {"m", "r", 500, 269, 4}),
              AllOf(HasSubstr("INVALID_ARGUMENT"), HasSubstr("max_tokens of 269, for each of 4"),
                    HasSubstr("has room for 768")));
  const Worker narrow = {'u', 0, "a", WorkerState::kReady, "m", 1000, 3};
  EXPECT_EQ(Picked({narrow, {'u', 100}}, {"m", "r", 10, 20, 4}), "u1");
  EXPECT_THAT(Picked({narrow}, {"m", "r", 10, 20, 4}),
              AllOf(HasSubstr("INVALID_ARGUMENT: sampling.n: 4 outputs"), HasSubstr("at most 3")));
  // The prompt alone is one sequence.
  const Worker prefill = {'p', 0, "a", WorkerState::kReady, "m", 1000, 1};
  EXPECT_EQ(Picked({prefill, {'d'}}, {"m", "r", 10, 20, 4}), "p0>d1");
  EXPECT_THAT(Picked({prefill}, {"m", "r", 10, 20, 4}), HasSubstr("INVALID_ARGUMENT"));
}

}  // namespace
}  // namespace tandem
