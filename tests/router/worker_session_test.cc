#include "router/placement/worker_session.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "base/grpc_channel.h"
#include "tests/support/fake_worker.h"

namespace tandem {
namespace {

class WorkerSessionTest : public testing::Test {
 protected:
  std::shared_ptr<WorkerSession> MakeSession() {
    WorkerSession::Options options;
    options.address = worker_.address();
    options.channel = MakeChannel(worker_.address(), {});
    options.on_change = [this] { ++changes_; };
    return std::make_shared<WorkerSession>(std::move(options));
  }

  FakeWorker worker_{{}};
  std::atomic<int> changes_ = 0;  // that sessions told of
};

TEST_F(WorkerSessionTest, ATickBeforeStartMakesTheOnlyConnection) {
  const auto session = MakeSession();
  session->Tick();
  session->Start();
  session->Tick();
  const absl::Time end = absl::Now() + absl::Seconds(20);
  while (session->View().facts->state != WorkerState::kReady && absl::Now() < end) {
    std::this_thread::yield();
  }
  EXPECT_EQ(session->View().facts->state, WorkerState::kReady);
  const absl::Time stopped = absl::Now();
  session->Stop();
  EXPECT_LT(absl::Now() - stopped, absl::Seconds(9)) << "a stream that nobody closed";
  EXPECT_EQ(worker_.hellos(), 1);
}

// One that did connect would tell of it when it is stopped again.
TEST_F(WorkerSessionTest, NothingConnectsOnceItIsStoppedOrRetired) {
  const auto stopped = MakeSession();
  stopped->Stop();
  stopped->Start();
  stopped->Tick();
  stopped->Stop();
  const auto retired = MakeSession();
  EXPECT_TRUE(retired->Retire(true));
  retired->Start();
  retired->Tick();
  EXPECT_TRUE(retired->Done());
  retired->Stop();
  EXPECT_EQ(changes_, 0);
}

}  // namespace
}  // namespace tandem
