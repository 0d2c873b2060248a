#include "base/process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<ProcessArgs> Parse(std::vector<const char*> args) {
  return ParseProcessArgs(args, {{"--role", "role"}, {"--model", "model.path"}});
}

TEST(ProcessArgs, KeepsTheOrderOfSettingsAndShortcuts) {
  ASSERT_OK_AND_ASSIGN(const ProcessArgs args,
                       Parse({"--set", "a=1", "--config=w.yaml", "--role=decode", "--set=b=x=y",
                              "--model", "/m", "--check-config", "--ready-file", "r.json"}));
  EXPECT_EQ(args.config_file, "w.yaml");
  EXPECT_EQ(args.ready_file, "r.json");
  EXPECT_THAT(args.sets, ElementsAre("a=1", "role=decode", "b=x=y", "model.path=/m"));
  EXPECT_TRUE(args.check_config);
  EXPECT_FALSE(args.help);
}

TEST(ProcessArgs, NamesWhatIsWrong) {
  EXPECT_THAT(Parse({"--confg", "x"}), StatusIs(absl::StatusCode::kInvalidArgument,
                                                HasSubstr("did you mean \"--config\"?")));
  EXPECT_THAT(Parse({"x.yaml"}), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("unknown argument \"x.yaml\"")));
  EXPECT_THAT(Parse({"--set"}), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("--set needs a value after it")));
  EXPECT_THAT(Parse({"--help=yes"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--help takes no value")));
}

TEST(ReadyFile, HoldsTheAddresses) {
  const std::string path = testing::TempDir() + "/tandem_ready_" + std::to_string(getpid());
  ASSERT_THAT(WriteReadyFile(path, {{"grpc", "127.0.0.1:1"}, {"http", "127.0.0.1:2"}}), IsOk());
  std::ifstream file(path);
  const auto json = nlohmann::json::parse(file, nullptr, false);
  EXPECT_EQ(json["grpc"], "127.0.0.1:1");
  EXPECT_EQ(json["http"], "127.0.0.1:2");
  unlink(path.c_str());
  EXPECT_THAT(WriteReadyFile("", {}), IsOk());
  EXPECT_THAT(WriteReadyFile("/nonexistent/ready", {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("/nonexistent/ready")));
}

// Runs `body` in a child process and returns how that ended, as waitpid tells it.
template <typename Body>
int RunInChild(Body body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

TEST(StopSignal, IsReturnedOnceAndASecondOneEndsTheProcess) {
  for (const int number : {SIGTERM, SIGINT}) {
    const int once = RunInChild([number] {
      PrepareSignals();
      kill(getpid(), number);
      return WaitForStopSignal() == number ? 7 : 1;
    });
    EXPECT_TRUE(WIFEXITED(once) && WEXITSTATUS(once) == 7) << once;
    const int twice = RunInChild([number] {
      PrepareSignals();
      kill(getpid(), number);
      WaitForStopSignal();
      kill(getpid(), number);
      return 1;
    });
    EXPECT_TRUE(WIFSIGNALED(twice) && WTERMSIG(twice) == number) << twice;
  }
}

TEST(StopSignal, AWriteToAClosedPipeIsAnErrorAndNoSignal) {
  const int status = RunInChild([] {
    PrepareSignals();
    int ends[2];
    if (pipe(ends) != 0) return 1;
    close(ends[0]);
    return write(ends[1], "x", 1) < 0 && errno == EPIPE ? 7 : 2;
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
}

}  // namespace
}  // namespace tandem
