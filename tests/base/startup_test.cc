#include "base/startup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tandem/config/v1/worker.pb.h"

namespace tandem {
namespace {

using config::v1::WorkerConfig;
using ::testing::HasSubstr;

struct Outcome {
  std::optional<int> exit_status;
  WorkerConfig config;
  std::string out, err;
};

Outcome RunStart(std::vector<std::string> args) {
  args.insert(args.begin(), "tandem-worker");
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const Startup<WorkerConfig> startup =
      Start<WorkerConfig>({"tandem-worker", "runs a model", {{"--role", "role"}}},
                          static_cast<int>(argv.size()), argv.data());
  std::fflush(stdout);
  Outcome outcome{startup.exit_status, startup.config};
  outcome.out = testing::internal::GetCapturedStdout();
  outcome.err = testing::internal::GetCapturedStderr();
  return outcome;
}

TEST(Startup, GoesOnWithAValidConfiguration) {
  const Outcome outcome = RunStart({"--set", "model.path=/m", "--role=decode"});
  EXPECT_FALSE(outcome.exit_status.has_value());
  EXPECT_EQ(outcome.config.role(), config::v1::ROLE_DECODE);
  EXPECT_EQ(outcome.out + outcome.err, "");
}

TEST(Startup, CheckConfigPrintsTheWholeConfigurationAndEnds) {
  const Outcome outcome = RunStart({"--check-config", "--set", "model.path=/m"});
  EXPECT_EQ(outcome.exit_status, 0);
  EXPECT_THAT(outcome.out, HasSubstr("path: \"/m\""));
  EXPECT_THAT(outcome.out, HasSubstr("max_step: 250ms"));
}

TEST(Startup, AnErrorIsToldOnStderrAndEndsWithOne) {
  const Outcome outcome = RunStart({"--check-config", "--set", "modl.path=/m"});
  EXPECT_EQ(outcome.exit_status, 1);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr("tandem-worker: --set modl.path: unknown key \"modl\"; did "
                                     "you mean \"model\"?"));
}

TEST(Startup, HelpAndVersionEndWithZero) {
  const Outcome help = RunStart({"--help"});
  EXPECT_EQ(help.exit_status, 0);
  EXPECT_THAT(help.out, HasSubstr("tandem-worker: runs a model"));
  EXPECT_THAT(help.out, HasSubstr("--role VALUE: short for --set role=VALUE"));
  const Outcome version = RunStart({"--version"});
  EXPECT_EQ(version.exit_status, 0);
  EXPECT_THAT(version.out, testing::MatchesRegex("tandem-worker [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

}  // namespace
}  // namespace tandem
