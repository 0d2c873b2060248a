#include "client/bench/summary.h"

#include <gmock/gmock.h>

#include "client/bench/saturation.h"
#include "client/bench/worker_pages.h"
#include "tests/support/status_matchers.h"

namespace tandem::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::HasSubstr;
using ::testing::Pair;

// Due and sent at `at_s`; its first token comes `first_s` later, and one each second from then on.
Record Answered(double at_s, double first_s, uint32_t tokens) {
  Record record = {.state = Record::State::kEnded,
                   .due = absl::Seconds(at_s),
                   .sent = absl::Seconds(at_s),
                   .input_tokens = 100,
                   .output_wanted = tokens};
  for (uint32_t i = 0; i < tokens; ++i) record.Add(1, absl::Seconds(at_s + first_s + i));
  record.ended = record.last_token;
  return record;
}

Record Failed(double at_s, absl::Status status) {
  Record record = Answered(at_s, 1, 1);
  record.status = std::move(status);
  return record;
}

TEST(Distribution, PercentilesAreLinearBetweenRanks) {
  const std::vector<double> ten = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  EXPECT_DOUBLE_EQ(Percentile(ten, 0), 1);
  EXPECT_DOUBLE_EQ(Percentile(ten, 50), 5.5);
  EXPECT_DOUBLE_EQ(Percentile(ten, 90), 9.1);
  EXPECT_DOUBLE_EQ(Percentile(ten, 99), 9.91);
  EXPECT_DOUBLE_EQ(Percentile(ten, 100), 10);
  EXPECT_DOUBLE_EQ(Percentile({3}, 99), 3);
}

TEST(Distribution, DescribesValuesInAnyOrder) {
  const Distribution d = Describe({4, 2, 8, 6});
  EXPECT_EQ(d.count, 4);
  EXPECT_DOUBLE_EQ(d.mean, 5);
  EXPECT_DOUBLE_EQ(d.deviation, std::sqrt(5.0));
  EXPECT_DOUBLE_EQ(d.min, 2);
  EXPECT_DOUBLE_EQ(d.p50, 5);
  EXPECT_DOUBLE_EQ(d.max, 8);
  EXPECT_EQ(Describe({}).count, 0);
}

TEST(Record, TokensOfOneMessageShareTheTimeSinceTheMessageBefore) {
  Record record;
  record.Add(1, absl::Seconds(10));
  record.Add(0, absl::Seconds(11));
  record.Add(4, absl::Seconds(12));
  EXPECT_EQ(record.output_tokens, 5);
  EXPECT_THAT(record.gaps_s, ElementsAre(FloatEq(0.5), FloatEq(0.5), FloatEq(0.5), FloatEq(0.5)));
  EXPECT_EQ(record.tpot(), absl::Seconds(0.5));
}

TEST(Record, AFirstMessageOfManyTokensHasGapsOfNothing) {
  Record record;
  record.Add(3, absl::Seconds(10));
  EXPECT_EQ(record.first_token, absl::Seconds(10));
  EXPECT_THAT(record.gaps_s, ElementsAre(0, 0));
}

TEST(Record, LatenciesCountFromWhenItWasDue) {
  Record record = Answered(10, 2, 3);
  record.due = absl::Seconds(7);
  EXPECT_EQ(record.lag(), absl::Seconds(3));
  EXPECT_EQ(record.ttft(), absl::Seconds(5));
  EXPECT_EQ(record.e2e(), absl::Seconds(7));
}

TEST(Summary, CountsEachRequestOnce) {
  Record cut = Answered(2, 1, 3);
  cut.output_wanted = 9;
  Record given_up = Answered(3, 1, 2);
  given_up.state = Record::State::kGivenUp;
  const std::vector<Record> records = {Answered(0, 1, 3),
                                       Failed(1, absl::UnavailableError("full")),
                                       Failed(1, absl::UnavailableError("gone")),
                                       Failed(1, absl::InternalError("bug")),
                                       cut,
                                       given_up,
                                       Record()};
  const Summary summary = Summarize(records, {});
  EXPECT_EQ(summary.planned, 7);
  EXPECT_EQ(summary.sent, 6);
  EXPECT_EQ(summary.succeeded, 2);
  EXPECT_EQ(summary.failed, 3);
  EXPECT_EQ(summary.given_up, 1);
  EXPECT_EQ(summary.short_outputs, 1);
  EXPECT_THAT(summary.errors, ElementsAre(Pair("INTERNAL", 1), Pair("UNAVAILABLE", 2)));
  EXPECT_EQ(summary.said.at("UNAVAILABLE"), "full");
  EXPECT_EQ(summary.input_tokens, 200);
  EXPECT_EQ(summary.output_tokens, 6);
  EXPECT_EQ(summary.ttft_ms.count, 2);
  EXPECT_EQ(summary.itl_ms.count, 4);
  EXPECT_EQ(summary.lag_ms.count, 6);
  EXPECT_FALSE(summary.good.has_value());
}

TEST(Summary, ThroughputIsOverTheWholeRun) {
  // In flight: [0, 3], [1, 5], [5, 10].
  const Summary summary = Summarize({Answered(0, 1, 3), Answered(1, 1, 4), Answered(5, 1, 5)}, {});
  EXPECT_EQ(summary.sending, absl::Seconds(5));
  EXPECT_EQ(summary.whole, absl::Seconds(10));
  EXPECT_DOUBLE_EQ(summary.requests_per_s, 0.3);
  EXPECT_DOUBLE_EQ(summary.output_tokens_per_s, 1.2);
  EXPECT_DOUBLE_EQ(summary.tokens_per_s, 31.2);
  EXPECT_DOUBLE_EQ(summary.in_flight_mean, 1.2);
  EXPECT_EQ(summary.in_flight_max, 2);
  EXPECT_DOUBLE_EQ(summary.e2e_ms.max, 5000);
}

TEST(Summary, GoodRequestsKeepEveryGoal) {
  ASSERT_OK_AND_ASSIGN(const Goals goals, ParseGoals("ttft:2000,tpot:1000,e2e:5000"));
  const std::vector<Record> records = {Answered(0, 2, 4), Answered(0, 2.1, 3), Answered(0, 2, 5),
                                       Answered(0, 1, 1), Failed(0, absl::InternalError(""))};
  EXPECT_EQ(Summarize(records, goals).good, 2);
}

TEST(Summary, AMistakeInGoalsIsNamed) {
  for (const char* text : {"", "ttft", "ttft:", "ttft:0", "itl:5", "ttft:1,ttft:2", "e2e:1,"}) {
    EXPECT_THAT(ParseGoals(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is no goal")))
        << text;
  }
}

// `count` requests, one each 1/rate s, the i-th of which takes `seconds(i)`.
template <typename Seconds>
std::vector<Record> Served(int count, double rate, Seconds seconds) {
  std::vector<Record> records;
  for (int i = 0; i < count; ++i) {
    Record record = Answered(i / rate, 0.1, 2);
    record.ended = record.due + absl::Seconds(seconds(i));
    records.push_back(record);
  }
  return records;
}

Verdict VerdictOn(const std::vector<Record>& records, Loop loop = Loop::kOpen,
                  absl::optional<WorkerLoad> load = absl::nullopt) {
  const Summary summary = Summarize(records, {});
  return Judge(loop, summary, MeasureBacklog(records, summary), load);
}

TEST(Saturation, AClusterThatKeepsUpHasABacklogAtRest) {
  const auto records = Served(400, 4, [](int i) { return 2 + (i % 5) * 0.5; });
  const Summary summary = Summarize(records, {});
  const Backlog backlog = MeasureBacklog(records, summary);
  EXPECT_NEAR(backlog.mean, 12, 0.5);  // Little: 4/s for 3 s each
  EXPECT_NEAR(backlog.slope_per_s, 0, 0.02);
  EXPECT_NEAR(backlog.offered_per_s, 4, 0.1);
  EXPECT_NEAR(backlog.ended_per_s, 4, 0.1);
  EXPECT_EQ(VerdictOn(records).level, Level::kKeptUp);
}

TEST(Saturation, ABacklogThatGrowsIsMeasuredAndNamed) {
  // One server that takes 1 s for each of 2 requests a second.
  const auto records = Served(200, 2, [](int i) { return 1 + i * 0.5; });
  const Summary summary = Summarize(records, {});
  const Backlog backlog = MeasureBacklog(records, summary);
  EXPECT_NEAR(backlog.slope_per_s, 1, 0.02);
  EXPECT_NEAR(backlog.ended_per_s, 1, 0.03);
  EXPECT_NEAR(backlog.at_end, 100, 3);
}

TEST(Saturation, AGrowingBacklogIsSaturated) {
  // A tenth more comes than can be served.
  const auto records = Served(2000, 2, [](int i) { return 1 + i * 0.05; });
  const Verdict verdict = VerdictOn(records);
  EXPECT_EQ(verdict.level, Level::kSaturated);
  EXPECT_THAT(verdict.sentence, HasSubstr("Saturated: 2.00 requests/s came and 1.82/s ended"));
}

TEST(Saturation, AShortRunTellsNothing) {
  EXPECT_EQ(VerdictOn(Served(100, 50, [](int) { return 1.0; })).level, Level::kUnknown);
  EXPECT_EQ(VerdictOn(Served(19, 1, [](int) { return 0.5; })).level, Level::kUnknown);
  EXPECT_THAT(VerdictOn(Served(100, 50, [](int) { return 1.0; })).sentence,
              HasSubstr("for at least 3 s"));
}

TEST(Saturation, AShortRunWhoseQueueGrowsIsSaturatedNevertheless) {
  auto records = Served(100, 50, [](int i) { return 1 + i * 0.1; });
  EXPECT_EQ(VerdictOn(records).level, Level::kUnknown) << "the first tokens came at once";
  for (Record& record : records) record.first_token = record.ended - absl::Seconds(0.5);
  EXPECT_EQ(VerdictOn(records).level, Level::kSaturated);
}

TEST(Saturation, RequestsThatAreRefusedAreNotKeptUpWith) {
  auto records = Served(100, 2, [](int) { return 1.0; });
  records[3].status = absl::UnavailableError("full");
  EXPECT_EQ(VerdictOn(records).level, Level::kKeptUp);
  records[4].status = absl::DeadlineExceededError("late");
  EXPECT_EQ(VerdictOn(records).level, Level::kSaturated);
  EXPECT_THAT(VerdictOn(records).sentence, HasSubstr("2.0 % of the requests were refused"));
}

TEST(Saturation, ALoopThatWaitsCanNotOverload) {
  const auto records = Served(100, 2, [](int) { return 1.0; });
  EXPECT_EQ(VerdictOn(records, Loop::kClosed).level, Level::kUnknown);
  EXPECT_EQ(VerdictOn(records, Loop::kClosed, WorkerLoad{.waiting_mean = 3}).level,
            Level::kSaturated);
  EXPECT_EQ(VerdictOn(records, Loop::kAllAtOnce).level, Level::kSaturated);
}

TEST(Saturation, WorkersWhoseRequestsWaitAreNearIt) {
  const auto records = Served(100, 2, [](int) { return 1.0; });
  EXPECT_EQ(VerdictOn(records, Loop::kOpen, WorkerLoad{.busy = 1}).level, Level::kKeptUp);
  EXPECT_EQ(VerdictOn(records, Loop::kOpen, WorkerLoad{.waiting_mean = 1}).level, Level::kNear);
  EXPECT_EQ(VerdictOn(records, Loop::kOpen, WorkerLoad{.kv_max = 0.96}).level, Level::kNear);
}

TEST(Saturation, AClientThatFallsBehindSaysSo) {
  auto records = Served(100, 2, [](int) { return 1.0; });
  EXPECT_FALSE(VerdictOn(records).client_late);
  for (int i = 90; i < 100; ++i) records[i].sent += absl::Milliseconds(50);
  EXPECT_TRUE(VerdictOn(records).client_late);
  EXPECT_THAT(VerdictOn(records).sentence, HasSubstr("This client sent late (50.0 ms"));
}

TEST(Saturation, NothingThatSucceededIsNoMeasurement) {
  const Verdict verdict = VerdictOn({Failed(0, absl::InternalError(""))});
  EXPECT_EQ(verdict.level, Level::kUnknown);
  EXPECT_EQ(verdict.sentence, "No request succeeded.");
  EXPECT_EQ(VerdictOn({}).level, Level::kUnknown);
}

TEST(WorkerPages, AreReadByName) {
  const std::string text =
      "# HELP tandem_worker_requests_waiting x\n"
      "tandem_worker_requests_waiting{model=\"a b\"} 3\n"
      "tandem_worker_requests_running{model=\"a\"} 2\n"
      "tandem_worker_step_duration_seconds_bucket{model=\"a\",le=\"1\"} 77\n"
      "tandem_worker_step_duration_seconds_sum{model=\"a\"} 1.5\n"
      "tandem_worker_step_duration_seconds_count{model=\"a\"} 10\n"
      "tandem_worker_tokens_total{model=\"a\",type=\"prompt\"} 30\n"
      "tandem_worker_tokens_total{model=\"a\",type=\"generated\"} 4\n";
  ASSERT_OK_AND_ASSIGN(const WorkerPage page, ParseWorkerPage(text, absl::UnixEpoch()));
  EXPECT_EQ(page.waiting, 3);
  EXPECT_EQ(page.running, 2);
  EXPECT_EQ(page.step_seconds, 1.5);
  EXPECT_EQ(page.steps, 10);
  EXPECT_EQ(page.tokens, 34);
  EXPECT_THAT(ParseWorkerPage("tandem_requests_inflight 1\n", absl::UnixEpoch()),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST(WorkerPages, SayHowBusyAWorkerWas) {
  const absl::Time start = absl::UnixEpoch();
  const WorkerReport report =
      Report("w:1", {{.at = start, .running = 1, .step_seconds = 5, .steps = 50, .tokens = 100},
                     {.at = start + absl::Seconds(1), .waiting = 4, .running = 3, .kv_used = 0.5},
                     {.at = start + absl::Seconds(2),
                      .running = 2,
                      .step_seconds = 6.5,
                      .steps = 65,
                      .tokens = 300}});
  EXPECT_DOUBLE_EQ(report.busy, 0.75);
  EXPECT_DOUBLE_EQ(report.step_ms, 100);
  EXPECT_DOUBLE_EQ(report.tokens_per_s, 100);
  EXPECT_DOUBLE_EQ(report.running_mean, 2);
  EXPECT_DOUBLE_EQ(report.waiting_max, 4);
  EXPECT_DOUBLE_EQ(Together({report, WorkerReport()})->kv_max, 0.5);
  EXPECT_EQ(Together({}), absl::nullopt);
}

}  // namespace
}  // namespace tandem::bench
