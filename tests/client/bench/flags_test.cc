#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "client/cli/bench_flags.h"
#include "tests/support/status_matchers.h"

namespace tandem::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

BenchFlags Parsed(const std::vector<std::string>& args) {
  BenchFlags flags;
  EXPECT_THAT(flags.Declared().Parse(args), IsOk());
  return flags;
}

TEST(BenchFlags, WhatDoesNotGoTogetherIsNamed) {
  const struct {
    std::vector<std::string> args;
    const char* message;
  } kCases[] = {
      {{}, "give --rate R, --trace FILE or --concurrency N"},
      {{"--rate=0"}, "--rate: want more than 0"},
      {{"--rate=nan"}, "--rate: want more than 0"},
      {{"--rate=1", "--trace=t"}, "--rate and --trace exclude"},
      {{"--rate=1", "--concurrency=1"}, "--rate and --concurrency exclude"},
      {{"--rate=inf", "--duration=3"}, "--rate inf sends all at once"},
      {{"--concurrency=0"}, "--concurrency: want 1 to"},
      {{"--concurrency=1", "--duration=3"}, "--duration is for"},
      {{"--rate=1", "--requests=0"}, "--requests: want 1 to"},
      {{"--rate=1", "--duration=-1"}, "--duration: want up to a week"},
      {{"--rate=1", "--timeout=inf"}, "--timeout: want up to a week"},
      {{"--rate=1", "--max-input=5"}, "are for --trace"},
      {{"--trace=t", "--trace-speed=0"}, "--trace-speed: want more than 0"},
      {{"--rate=1", "--details"}, "--details is for --json"},
  };
  for (const auto& c : kCases) {
    EXPECT_THAT(CheckFlags(Parsed(c.args)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.message)));
  }
  EXPECT_THAT(CheckFlags(Parsed({"--trace=t", "--concurrency=4", "--max-input=9"})), IsOk());
}

TEST(BenchFlags, TheLoadIsWhatTheFlagsSay) {
  ASSERT_OK_AND_ASSIGN(const BenchLoad drawn,
                       MakeLoad(Parsed({"--rate=4", "--requests=7", "--input-tokens=10-20",
                                        "--output-tokens=3", "--goodput=ttft:5"})));
  EXPECT_EQ(drawn.plan.size(), 7);
  EXPECT_EQ(drawn.loop, bench::Loop::kOpen);
  EXPECT_EQ(drawn.words, "7 requests, 10-20 tokens in, 3 out, Poisson 4/s");
  EXPECT_EQ(drawn.goals.ttft, absl::Milliseconds(5));
  EXPECT_EQ(MakeLoad(Parsed({"--rate=inf"}))->loop, bench::Loop::kAllAtOnce);
  EXPECT_EQ(MakeLoad(Parsed({"--rate=inf"}))->plan.size(), 100);
  EXPECT_EQ(MakeLoad(Parsed({"--concurrency=2"}))->loop, bench::Loop::kClosed);
  EXPECT_THAT(MakeLoad(Parsed({"--rate=1", "--input-tokens=x"})),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--input-tokens: \"x\"")));
  EXPECT_THAT(MakeLoad(Parsed({"--trace=no-such-file"})), StatusIs(absl::StatusCode::kNotFound));
}

TEST(BenchFlags, ATraceGivesItsTimesOrAClosedLoopItsRequests) {
  const std::string path = std::filesystem::path(testing::TempDir()) / "bench_flags_trace.jsonl";
  std::ofstream(path) << R"({"timestamp": 0, "input_length": 9, "output_length": 3})";
  ASSERT_OK_AND_ASSIGN(const BenchLoad open,
                       MakeLoad(Parsed({"--trace", path, "--trace-speed=2"})));
  EXPECT_EQ(open.loop, bench::Loop::kOpen);
  EXPECT_THAT(open.words, HasSubstr("1 of 1 requests of the Mooncake trace"));
  EXPECT_THAT(open.words, HasSubstr("at 2 x its speed"));
  ASSERT_OK_AND_ASSIGN(const BenchLoad closed,
                       MakeLoad(Parsed({"--trace", path, "--concurrency=4"})));
  EXPECT_EQ(closed.loop, bench::Loop::kClosed);
  EXPECT_THAT(closed.words, HasSubstr("4 at once"));
  std::filesystem::remove(path);
}

TEST(BenchFlags, AReadyFileGivesTheRouterAndTheWorkers) {
  const std::string path = std::filesystem::path(testing::TempDir()) / "bench_flags_ready.json";
  std::ofstream(path) << R"({"grpc": "r:1", "metrics": "r:2", "workers":
      [{"grpc": "a:1", "metrics": "a:2"}, {"grpc": "b:1", "metrics": "b:2"}]})";
  BenchFlags flags = Parsed({"--ready-file", path});
  ASSERT_THAT(ReadReadyFile(&flags), IsOk());
  EXPECT_EQ(flags.connection.endpoint, "r:1");
  EXPECT_THAT(flags.metrics, ElementsAre("a:2", "b:2"));
  for (const char* text : {"", "[]", "{}", R"({"grpc": "r:1"})", R"({"grpc": 1, "workers": []})"}) {
    std::ofstream(path) << text;
    EXPECT_THAT(ReadReadyFile(&flags), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace tandem::cli
