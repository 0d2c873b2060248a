#include "client/cli/child.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include "tests/support/status_matchers.h"

namespace tandem::cli {
namespace {

using ::testing::HasSubstr;

// Blocks until some child has ended: SIGCHLD is kept for sigwait.
class ChildTest : public ::testing::Test {
 protected:
  void SetUp() override {
    sigemptyset(&child_);
    sigaddset(&child_, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_, &before_);
  }
  void TearDown() override { sigprocmask(SIG_SETMASK, &before_, nullptr); }

  std::optional<ChildEnd> AwaitEnd() {
    const timespec limit = {.tv_sec = 10, .tv_nsec = 0};
    while (true) {
      if (auto end = NextEndedChild()) return end;
      if (sigtimedwait(&child_, nullptr, &limit) < 0) return std::nullopt;
    }
  }

 private:
  sigset_t child_;
  sigset_t before_;
};

TEST_F(ChildTest, TellsTheStatusOfAChildThatEnded) {
  ASSERT_OK_AND_ASSIGN(const pid_t pid, StartChild({"/bin/sh", "-c", "exit 7"}));
  const auto end = AwaitEnd();
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->pid, pid);
  EXPECT_EQ(end->ToString(), "ended with status 7");
}

TEST_F(ChildTest, TellsTheSignalThatKilledAChild) {
  ASSERT_OK_AND_ASSIGN(const pid_t pid, StartChild({"/bin/sleep", "60"}));
  kill(pid, SIGKILL);
  const auto end = AwaitEnd();
  ASSERT_TRUE(end.has_value());
  EXPECT_THAT(end->ToString(), HasSubstr("was killed by signal 9"));
}

TEST_F(ChildTest, AChildHasItsOwnGroupAndNoBlockedSignals) {
  ASSERT_OK_AND_ASSIGN(
      const pid_t pid,
      StartChild({"/bin/sh", "-c",
                  "grep -q '^SigBlk:.0*$' /proc/self/status && test -z \"$(cat)\" || exit 1"}));
  EXPECT_NE(getpgid(pid), getpgrp());
  const auto end = AwaitEnd();
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->ToString(), "ended with status 0");
}

TEST_F(ChildTest, AProgramThatCannotRunEndsAtOnce) {
  ASSERT_THAT(StartChild({"/nowhere/at-all"}), IsOk());
  const auto end = AwaitEnd();
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->ToString(), "ended with status 127");
}

TEST(ProgramBeside, NamesWhereItLooked) {
  EXPECT_THAT(ProgramBeside("client_test"), IsOk());
  EXPECT_THAT(ProgramBeside("no-such-program"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/bin/no-such-program")));
}

}  // namespace
}  // namespace tandem::cli
