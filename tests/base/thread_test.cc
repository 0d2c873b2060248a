#include "base/thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/no_threads.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

TEST(StartThread, RunsWhatItIsGiven) {
  bool ran = false;
  ASSERT_OK_AND_ASSIGN(std::thread thread, StartThread("a test", [&] { ran = true; }));
  thread.join();
  EXPECT_TRUE(ran);
}

TEST(StartThread, AThreadThatCannotBeIsAnErrorWithItsPurpose) {
  const NoThreads none;
  EXPECT_THAT(StartThread("a test", [] {}),
              StatusIs(absl::StatusCode::kUnavailable,
                       testing::HasSubstr("no thread can be started for a test: ")));
}

}  // namespace
}  // namespace tandem
