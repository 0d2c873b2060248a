#include "client/bench/trace.h"

#include <gmock/gmock.h>

#include <sstream>

#include "tests/support/status_matchers.h"

namespace tandem::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kMooncakeLines[] =
    R"({"timestamp": 3000, "input_length": 700, "output_length": 9, "hash_ids": [0, 7]})"
    "\n\n"
    R"({"timestamp": 0, "input_length": 512, "output_length": 5, "hash_ids": [0]})"
    "\r\n"
    R"({"timestamp": 6000, "input_length": 5, "output_length": 1, "more": {}})";

absl::StatusOr<Trace> Parse(const std::string& text) {
  std::istringstream in(text);
  return ParseTrace(in, "t");
}

std::vector<double> Seconds(const Plan& plan) {
  std::vector<double> times;
  for (const PlannedRequest& request : plan) times.push_back(absl::ToDoubleSeconds(request.at));
  return times;
}

// `moments` moments 3 s apart, with `requests` each.
Plan Batches(int moments, int requests) {
  Plan plan;
  for (int i = 0; i < moments * requests; ++i) {
    plan.push_back({.at = absl::Seconds(3 * (i / requests)),
                    .input_tokens = static_cast<uint32_t>(i + 1),
                    .output_tokens = 10});
  }
  return plan;
}

TEST(Trace, AMooncakeTraceIsReadAndSorted) {
  ASSERT_OK_AND_ASSIGN(const Trace trace, Parse(kMooncakeLines));
  EXPECT_EQ(trace.format, TraceFormat::kMooncake);
  ASSERT_EQ(trace.plan.size(), 3);
  EXPECT_THAT(Seconds(trace.plan), ElementsAre(0, 3, 6));
  EXPECT_EQ(trace.plan[1].input_tokens, 700);
  EXPECT_EQ(trace.plan[1].output_tokens, 9);
  EXPECT_THAT(trace.plan[1].blocks, ElementsAre(0, 7));
  EXPECT_THAT(trace.plan[2].blocks, ElementsAre());
}

TEST(Trace, AnAzureTraceStartsWithItsFirstRequest) {
  ASSERT_OK_AND_ASSIGN(const Trace trace, Parse("TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
                                                "2023-11-16 18:15:46.6805900,374,44\r\n"
                                                "2023-11-16 18:16:46.1805900,396,109\r\n"));
  EXPECT_EQ(trace.format, TraceFormat::kAzure);
  EXPECT_THAT(Seconds(trace.plan), ElementsAre(0, 59.5));
  EXPECT_EQ(trace.plan[1].input_tokens, 396);
  EXPECT_EQ(trace.plan[1].output_tokens, 109);
}

TEST(Trace, AzureColumnsAreFoundByNameAndMayHaveAnOffsetOfTime) {
  ASSERT_OK_AND_ASSIGN(const Trace trace, Parse("GeneratedTokens,id,TIMESTAMP,ContextTokens\n"
                                                "44,a,2024-05-10 00:00:00.009930+00:00,374\n"));
  EXPECT_EQ(trace.plan[0].input_tokens, 374);
  EXPECT_EQ(trace.plan[0].output_tokens, 44);
}

TEST(Trace, AMistakeNamesFileLineAndField) {
  const std::string azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
  const auto mooncake = [](const std::string& rest) {
    return std::string(kMooncakeLines) + "\n{" + rest + "}";
  };
  const struct {
    std::string text;
    const char* message;
  } kCases[] = {
      {"", "t: there is no request in it"},
      {azure, "t: there is no request in it"},
      {"time,prompt\n",
       "t:1: this is neither a Mooncake trace (a JSON object a line) nor an Azure"},
      {azure + "2023-11-16 18:15:46,374\n", "t:2: has 2 columns, the first line has 3"},
      {azure + "yesterday,374,44\n", "t:2: TIMESTAMP: want one as 2023"},
      {azure + "infinite-future,374,44\n", "t:2: TIMESTAMP"},
      {azure + "2023-11-16 18:15:46,many,44\n", "t:2: ContextTokens: want a whole number"},
      {azure + "2023-11-16 18:15:46,374,0\n", "t:2: GeneratedTokens: want a whole number"},
      {"{\"timestamp\": 1", "t:1: this is not one JSON object"},
      {"{} {}", "t:1: this is not one JSON object"},
      {mooncake(""), "t:5: timestamp is missing"},
      {mooncake(R"("timestamp": "now")"), "t:5: timestamp is not a number"},
      {mooncake(R"("timestamp": -1)"), "t:5: timestamp: want milliseconds"},
      {mooncake(R"("timestamp": 1, "input_length": 1.5, "output_length": 1)"),
       "t:5: input_length: want a whole number of tokens from 1 to 4000000"},
      {mooncake(R"("timestamp": 1, "input_length": 1, "output_length": 4000001)"),
       "t:5: output_length: want a whole number"},
      {mooncake(R"("timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": 3)"),
       "t:5: hash_ids is not a list"},
      {mooncake(R"("timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": [-1])"),
       "t:5: hash_ids: want whole numbers"},
      {mooncake(R"("timestamp": 1, "input_length": 512, "output_length": 1, "hash_ids": [1, 2])"),
       "t:5: hash_ids has 2 blocks, but 512 tokens of input are 1"},
      {std::string((1 << 20) + 1, '{'), "t:1: the line is longer than 1048576 bytes"},
  };
  for (const auto& c : kCases) {
    EXPECT_THAT(Parse(c.text).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.message)));
  }
  EXPECT_THAT(ReadTrace("no-such-file"), StatusIs(absl::StatusCode::kNotFound));
}

TEST(Trace, BatchesAreSpreadUpToTheNextMomentAndStayInOrder) {
  const Plan plan = Replayed(Batches(4, 500), {.seed = 3});
  ASSERT_EQ(plan.size(), 2000);
  for (size_t i = 0; i < plan.size(); ++i) {
    EXPECT_EQ(plan[i].input_tokens, i + 1);
    EXPECT_GE(plan[i].at, absl::Seconds(3 * (i / 500)));
    EXPECT_LT(plan[i].at, absl::Seconds(3 * (i / 500 + 1)));
    EXPECT_GE(plan[i].at, plan[i == 0 ? 0 : i - 1].at);
  }
  // Spread, not moved: the middle one of a batch is about in its middle.
  EXPECT_NEAR(absl::ToDoubleSeconds(plan[250].at), 1.5, 0.3);
  EXPECT_EQ(Seconds(plan), Seconds(Replayed(Batches(4, 500), {.seed = 3})));
  EXPECT_NE(Seconds(plan), Seconds(Replayed(Batches(4, 500), {.seed = 4})));
}

TEST(Trace, MomentsOfOneRequestStayAndSoDoBatchesThatAreToBeKept) {
  EXPECT_THAT(Seconds(Replayed(Batches(3, 1), {})), ElementsAre(0, 3, 6));
  EXPECT_THAT(Seconds(Replayed(Batches(2, 2), {.keep_batches = true})), ElementsAre(0, 0, 3, 3));
}

TEST(Trace, AReplayIsFasterShorterAndCut) {
  const Plan plan =
      Replayed(Batches(100, 1), {.speed = 2, .limit = absl::Seconds(9), .input_max = 3});
  EXPECT_THAT(Seconds(plan), ElementsAre(0, 1.5, 3, 4.5, 6, 7.5));
  EXPECT_EQ(plan[1].input_tokens, 2);
  EXPECT_EQ(plan[5].input_tokens, 3);
  EXPECT_EQ(Replayed(Batches(100, 1), {.requests = 7, .output_max = 4}).size(), 7);
  EXPECT_EQ(Replayed(Batches(2, 1), {.output_max = 4})[1].output_tokens, 4);
}

}  // namespace
}  // namespace tandem::bench
