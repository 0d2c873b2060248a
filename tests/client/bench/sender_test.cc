#include "client/bench/sender.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <thread>

#include "base/grpc_status.h"
#include "client/bench/prompt.h"
#include "client/bench/summary.h"
#include "tandem/inference/v1/inference.grpc.pb.h"
#include "tests/support/status_matchers.h"

namespace tandem::bench {
namespace {

namespace v1 = inference::v1;
using ::testing::ElementsAre;

// Answers with as many tokens as were asked for, two a message, once `gather` requests are here.
class FakeRouter final : public v1::InferenceService::Service {
 public:
  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    {
      MutexLock lock(&mu_);
      requests_.push_back(*request);
      most_at_once_ = std::max(most_at_once_, ++at_once_);
      changed_.NotifyAll();
      while (requests_.size() < gather_ && !context->IsCancelled()) {
        changed_.WaitFor(&mu_, absl::Milliseconds(10));
      }
    }
    for (uint32_t sent = 0; sent < request->stopping().max_tokens();) {
      v1::GenerateResponse response;
      v1::OutputDelta* output = response.add_outputs();
      for (int i = 0; i < 2 && sent < request->stopping().max_tokens(); ++i, ++sent) {
        output->add_token_ids(1);
      }
      writer->Write(response);
    }
    v1::GenerateResponse end;
    end.mutable_end()->mutable_usage()->set_cached_tokens(7);
    writer->Write(end);
    MutexLock lock(&mu_);
    --at_once_;
    if (requests_.size() > refuse_after_) {
      return ToGrpcStatus(WithReason(absl::UnavailableError("full"), "FULL"));
    }
    return grpc::Status::OK;
  }

  void Gather(size_t requests) {
    MutexLock lock(&mu_);
    gather_ = requests;
  }
  void RefuseAfter(size_t requests) {
    MutexLock lock(&mu_);
    refuse_after_ = requests;
  }
  void AwaitRequests(size_t requests) {
    MutexLock lock(&mu_);
    while (requests_.size() < requests) changed_.Wait(&mu_);
  }
  std::vector<v1::GenerateRequest> requests() {
    MutexLock lock(&mu_);
    return requests_;
  }
  int most_at_once() {
    MutexLock lock(&mu_);
    return most_at_once_;
  }

 private:
  Mutex mu_;
  CondVar changed_;
  size_t gather_ ABSL_GUARDED_BY(mu_) = 0;
  size_t refuse_after_ ABSL_GUARDED_BY(mu_) = SIZE_MAX;
  std::vector<v1::GenerateRequest> requests_ ABSL_GUARDED_BY(mu_);
  int at_once_ ABSL_GUARDED_BY(mu_) = 0;
  int most_at_once_ ABSL_GUARDED_BY(mu_) = 0;
};

class SenderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&router_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    client_ = *Client::Create({.endpoint = absl::StrCat("127.0.0.1:", port)});
  }
  void TearDown() override {
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(10));
  }

  static Sender::Options OptionsOf() {
    return {.model = "m", .vocabulary = 100, .seed = 5, .timeout = absl::Seconds(60)};
  }
  static Plan PlanOf(size_t requests) {
    return Plan(requests, {.input_tokens = 30, .output_tokens = 5});
  }

  FakeRouter router_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(SenderTest, AnOpenLoopSendsWhetherOrNotOthersHaveEnded) {
  router_.Gather(8);  // none is answered before the last one is sent
  const Plan plan = PlanOf(8);
  const std::vector<Record> records = Sender(&plan, client_.get(), OptionsOf()).Go();
  const Summary summary = Summarize(records, {});
  EXPECT_EQ(summary.succeeded, 8);
  EXPECT_EQ(summary.output_tokens, 40);
  EXPECT_EQ(summary.short_outputs, 0);
  EXPECT_EQ(summary.cached_tokens, 8 * 7);
  EXPECT_EQ(summary.itl_ms.count, 8 * 4);
  for (const Record& record : records) {
    EXPECT_GE(record.lag(), absl::ZeroDuration());
    EXPECT_GT(record.first_token, record.sent);
    EXPECT_GE(record.ended, record.last_token);
  }
}

TEST_F(SenderTest, NoRequestIsSentBeforeItIsDue) {
  Plan plan = PlanOf(3);
  for (int i = 0; i < 3; ++i) plan[i].at = absl::Milliseconds(30 * i);
  const std::vector<Record> records = Sender(&plan, client_.get(), OptionsOf()).Go();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(records[i].due, plan[i].at);
    EXPECT_GE(records[i].sent, records[i].due);
  }
}

TEST_F(SenderTest, ARequestIsWhatThePlanSays) {
  const Plan plan = PlanOf(1);
  Sender(&plan, client_.get(), OptionsOf()).Go();
  const v1::GenerateRequest request = router_.requests().at(0);
  EXPECT_EQ(request.model(), "m");
  EXPECT_EQ(
      std::vector<int32_t>(request.token_ids().ids().begin(), request.token_ids().ids().end()),
      MakePrompt(plan[0], 0, 5, 100));
  EXPECT_EQ(request.stopping().max_tokens(), 5);
  EXPECT_TRUE(request.stopping().ignore_eos());
  EXPECT_EQ(request.sampling().temperature(), 0);
  EXPECT_TRUE(request.response().token_ids());
}

TEST_F(SenderTest, AClosedLoopHasNeverMoreAtOnce) {
  Sender::Options options = OptionsOf();
  options.concurrency = 3;
  const Plan plan = PlanOf(30);
  const std::vector<Record> records = Sender(&plan, client_.get(), options).Go();
  EXPECT_EQ(Summarize(records, {}).succeeded, 30);
  EXPECT_LE(router_.most_at_once(), 3);
}

TEST_F(SenderTest, ErrorsAreOfTheirRequestsAlone) {
  router_.RefuseAfter(4);
  Sender::Options options = OptionsOf();
  options.concurrency = 1;
  const Plan plan = PlanOf(6);
  const Summary summary = Summarize(Sender(&plan, client_.get(), options).Go(), {});
  EXPECT_EQ(summary.succeeded, 4);
  EXPECT_THAT(summary.errors, ElementsAre(testing::Pair("UNAVAILABLE", 2)));
}

TEST_F(SenderTest, ATimeoutEndsOneRequest) {
  router_.Gather(2);
  Sender::Options options = OptionsOf();
  options.timeout = absl::Milliseconds(50);
  const Plan plan = PlanOf(1);
  const Summary summary = Summarize(Sender(&plan, client_.get(), options).Go(), {});
  EXPECT_THAT(summary.errors, ElementsAre(testing::Pair("DEADLINE_EXCEEDED", 1)));
}

TEST_F(SenderTest, StopCancelsWhatRunsAndSendsNothingMore) {
  router_.Gather(100);
  Plan plan = PlanOf(3);
  plan[2].at = absl::Hours(1);
  Sender run(&plan, client_.get(), OptionsOf());
  std::thread stopper([&] {
    router_.AwaitRequests(2);
    run.Stop();
  });
  const std::vector<Record> records = run.Go();
  stopper.join();
  EXPECT_EQ(records[0].state, Record::State::kGivenUp);
  EXPECT_EQ(records[1].state, Record::State::kGivenUp);
  EXPECT_EQ(records[2].state, Record::State::kNotSent);
  EXPECT_EQ(Summarize(records, {}).failed, 0);
}

TEST(Sender, NothingThatListensIsAnErrorOfEachRequest) {
  const auto client = *Client::Create({.endpoint = "127.0.0.1:1"});
  const Plan plan(3, {.input_tokens = 1, .output_tokens = 1});
  const Summary summary = Summarize(
      Sender(&plan, client.get(), {.vocabulary = 9, .timeout = absl::Seconds(30)}).Go(), {});
  EXPECT_THAT(summary.errors, ElementsAre(testing::Pair("UNAVAILABLE", 3)));
}

}  // namespace
}  // namespace tandem::bench
