// Clients that do not read as fast as their answers are made.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/router/router_fixture.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/fake_clock.h"

namespace tandem {
namespace {

namespace wv1 = worker::v1;

constexpr uint32_t kContext = 1 << 20;

class SlowClientTest : public ::testing::Test {
 protected:
  SlowClientTest() : worker_({.max_context = kContext, .blocks = kContext / 16}) {}

  void StartRouter(const Clock* clock = RealClock()) {
    router_ = std::make_unique<RouterFixture>(RouterFixture::Options{
        .workers = {worker_.address()},
        .sets = {"limits.client_buffer_bytes=4KiB", "limits.slow_client_timeout=30s"},
        .clock = clock,
        .stream_window = 1024});
    router_->AwaitWorkers(1);
  }

  // Sends tokens until the router says that it has had enough; returns how many were sent.
  uint32_t SendUntilPaused(uint64_t handle) {
    uint32_t sent = 0;
    while (!worker_.paused(handle) && sent < kContext - 1000) {
      worker_.Send(handle, {.first_index = sent, .ids = Bytes(std::string(100, 'a'))});
      sent += 100;
    }
    return sent;
  }

  FakeClock clock_;  // outlives the router
  FakeWorker worker_;
  std::unique_ptr<RouterFixture> router_;
};

TEST_F(SlowClientTest, IsPausedAtTheWorkerAndGoesOnWhenItReads) {
  StartRouter();
  auto call = router_->Generate(TextRequest("Hi", kContext - 10));
  const wv1::Submit submit = worker_.NextSubmit();
  const uint32_t sent = SendUntilPaused(submit.handle());
  ASSERT_LT(sent, kContext - 1000) << "was never paused";
  EXPECT_THAT(router_->router()->MetricsText(),
              ::testing::HasSubstr("tandem_client_pauses_total 1"));
  uint32_t read = 0;
  while (read < sent && !worker_.resumed(submit.handle())) {
    read += call->Next().outputs(0).token_ids_size();
  }
  EXPECT_TRUE(worker_.AwaitResume(submit.handle()));
  worker_.Send(submit.handle(), {.first_index = sent, .ids = Bytes("b"), .finish = true});
  const Answer rest = call->Rest();
  ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
  EXPECT_EQ(read + rest.Joined().outputs(0).token_ids_size(), sent + 1);
}

TEST_F(SlowClientTest, DoesNotSlowAnotherClientDown) {
  StartRouter();
  auto slow = router_->Generate(TextRequest("Hi", kContext - 10));
  SendUntilPaused(worker_.NextSubmit().handle());
  worker_.AnswerAll("quick");
  EXPECT_EQ(router_->GenerateAll(TextRequest("Hi")).text(), "quick");
  slow->Cancel();
}

TEST_F(SlowClientTest, IsGivenUpAfterTheTimeLimit) {
  StartRouter(&clock_);
  auto call = router_->Generate(TextRequest("Hi", kContext - 10));
  const wv1::Submit submit = worker_.NextSubmit();
  ASSERT_LT(SendUntilPaused(submit.handle()), kContext - 1000) << "was never paused";
  EXPECT_FALSE(worker_.cancelled(submit.handle()));
  clock_.Advance(absl::Seconds(31));
  EXPECT_TRUE(worker_.AwaitCancel(submit.handle()));
  EXPECT_EQ(call->Rest().status.error_code(), grpc::StatusCode::CANCELLED);
}

}  // namespace
}  // namespace tandem
