// What the router knows of models and workers, and the calls beside Generate.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "base/grpc_status.h"
#include "router/api/model_catalog.h"
#include "router/placement/worker_table.h"
#include "tests/router/router_fixture.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;
namespace wv1 = worker::v1;

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

iv1::ListModelsResponse List(RouterFixture* router, uint32_t size = 0, std::string token = "") {
  iv1::ListModelsRequest request;
  request.set_page_size(size);
  request.set_page_token(token);
  grpc::ClientContext context;
  iv1::ListModelsResponse response;
  const grpc::Status status = router->stub()->ListModels(&context, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response;
}

grpc::Status GetModel(RouterFixture* router, const std::string& name, iv1::Model* model) {
  iv1::GetModelRequest request;
  request.set_model(name);
  grpc::ClientContext context;
  iv1::GetModelResponse response;
  const grpc::Status status = router->stub()->GetModel(&context, request, &response);
  *model = response.model();
  return status;
}

TEST(Models, AreListedByNameInPagesWithTheirWorkers) {
  FakeWorker b({.model = "b"});
  FakeWorker a({.role = wv1::ROLE_DECODE, .model = "a"});
  FakeWorker c({.role = wv1::ROLE_PREFILL, .model = "c"});
  RouterFixture router({.workers = {b.address(), a.address(), c.address()}});
  router.AwaitWorkers(3);
  const iv1::ListModelsResponse first = List(&router, 2);
  ASSERT_EQ(first.models_size(), 2);
  EXPECT_EQ(first.models(0).name(), "a");
  EXPECT_EQ(first.models(0).decode_workers(), 1u);
  EXPECT_EQ(first.models(1).name(), "b");
  EXPECT_EQ(first.models(1).unified_workers(), 1u);
  const iv1::ListModelsResponse second = List(&router, 2, first.next_page_token());
  ASSERT_EQ(second.models_size(), 1);
  EXPECT_EQ(second.models(0).name(), "c");
  EXPECT_EQ(second.models(0).prefill_workers(), 1u);
  EXPECT_EQ(second.next_page_token(), "");
}

TEST(Models, AreDescribedAndFoundByAlias) {
  FakeWorker worker({});
  RouterFixture router({.workers = {worker.address()}, .sets = {"aliases.fast=bytes"}});
  router.AwaitWorkers(1);
  iv1::Model model;
  ASSERT_TRUE(GetModel(&router, "fast", &model).ok());
  EXPECT_EQ(model.name(), "bytes");
  EXPECT_THAT(model.aliases(), ElementsAre("fast"));
  EXPECT_EQ(model.revision(), "weights");
  EXPECT_EQ(model.architecture(), "FakeForCausalLM");
  EXPECT_EQ(model.max_context(), 4096u);
  EXPECT_EQ(model.vocabulary(), kByteVocabulary);
  EXPECT_THAT(model.eos_token_ids(), ElementsAre(kImEnd));
  EXPECT_TRUE(model.has_chat_template());
  EXPECT_EQ(GetModel(&router, "nonesuch", &model).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST(Models, OneOfSeveralHasToBeNamed) {
  FakeWorker a({.model = "a"});
  FakeWorker b({.model = "b"});
  RouterFixture router({.workers = {a.address(), b.address()}});
  router.AwaitWorkers(2);
  const grpc::Status status = router.GenerateAll(TextRequest("Hi")).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("a, b"));
}

TEST(Models, FilesAreFetchedOnceForAllWorkers) {
  FakeWorker a({});
  FakeWorker b({});
  RouterFixture router({.workers = {a.address(), b.address()}});
  router.AwaitWorkers(2);
  EXPECT_EQ(a.asset_requests() + b.asset_requests(), 1);
}

TEST(Models, FilesThatAreNotWhatWasAnnouncedAreRefused) {
  FakeWorker worker({.corrupt_assets = true});
  RouterFixture router({.workers = {worker.address()}});
  EXPECT_TRUE(router.Await([&] {
    const grpc::Status status = router.GenerateAll(TextRequest("Hi")).status;
    return status.error_code() == grpc::StatusCode::UNAVAILABLE &&
           status.error_message().find("digest") != std::string::npos;
  }));
}

TEST(Models, AWorkerWithAnotherProtocolIsNamedAsIncompatible) {
  FakeWorker worker({.protocol_version = 99});
  RouterFixture router({.workers = {worker.address()}});
  EXPECT_TRUE(router.Await([&] {
    const std::string error = router.GenerateAll(TextRequest("Hi")).status.error_message();
    return error.find("protocol version 99") != std::string::npos;
  }));
}

TEST(Models, ALateWorkerJoinsAndItsRequestsAreServed) {
  auto first = std::make_unique<FakeWorker>(FakeWorker::Options());
  const std::string address = first->address();
  RouterFixture router({.workers = {address}});
  router.AwaitWorkers(1);
  first.reset();
  router.AwaitWorkers(0);
  FakeWorker second({.listen = address});
  router.AwaitWorkers(1);
  second.AnswerAll("back");
  EXPECT_EQ(router.GenerateAll(TextRequest("Hi")).text(), "back");
}

TEST(Models, TheLeastLoadedWorkerIsTaken) {
  FakeWorker a({});
  FakeWorker b({});
  RouterFixture router({.workers = {a.address(), b.address()}});
  router.AwaitWorkers(2);
  auto first = router.Generate(TextRequest("Hi", 1000));
  auto second = router.Generate(TextRequest("Hi", 1000));  // the first one's tokens are charged
  a.NextSubmit();
  b.NextSubmit();
}

TEST(Tokenize, GivesIdsBytesAndTheRenderedChat) {
  FakeWorker worker({});
  RouterFixture router({.workers = {worker.address()}});
  router.AwaitWorkers(1);
  iv1::TokenizeRequest request;
  request.set_text("a\xC3\xA4");
  iv1::TokenizeResponse response;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(router.stub()->Tokenize(&context, request, &response).ok());
  }
  EXPECT_THAT(response.token_ids(), ElementsAre('a', 0xC3, 0xA4));
  EXPECT_THAT(response.tokens(), ElementsAre("a", "\xC3", "\xA4"));
  auto* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("x");
  response.Clear();
  {
    grpc::ClientContext context;
    ASSERT_TRUE(router.stub()->Tokenize(&context, request, &response).ok());
  }
  EXPECT_EQ(response.rendered(), "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(response.token_ids(0), kImStart);
}

TEST(Detokenize, TakesIdsBackToTextAndNamesABadOne) {
  FakeWorker worker({});
  RouterFixture router({.workers = {worker.address()}});
  router.AwaitWorkers(1);
  iv1::DetokenizeRequest request;
  for (const int32_t id : Bytes("h\xC3\xA4")) request.add_token_ids(id);
  request.add_token_ids(kImEnd);
  request.add_token_ids(263);  // in the model's vocabulary, without a token of its own
  iv1::DetokenizeResponse response;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(router.stub()->Detokenize(&context, request, &response).ok());
  }
  EXPECT_EQ(response.text(), "h\xC3\xA4");
  request.add_token_ids(264);
  grpc::ClientContext context;
  const grpc::Status status = router.stub()->Detokenize(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("token_ids[5]"));
}

TEST(Embed, IsRefusedByName) {
  RouterFixture router({.workers = {"127.0.0.1:1"}});
  grpc::ClientContext context;
  iv1::EmbedResponse response;
  const grpc::Status status = router.stub()->Embed(&context, {}, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), HasSubstr("Embed"));
}

// A request that waits for its answer.
class SilentSink final : public LegSink {
 public:
  void OnAccepted(uint32_t) override {}
  void OnStep(const wv1::SequenceStep&) override {}
  void OnRefused(absl::Status) override {}
  void OnLost(absl::Status) override {}
  void OnSilent(absl::Status) override {}
};

// A table by itself, over names that the test resolves.
TEST(WorkerTable, FollowsTheAddressesBehindAName) {
  FakeWorker a({});
  FakeWorker b({});
  Mutex mu;
  std::vector<std::string> behind = {a.address()};  // guarded by mu
  WorkerTable::Options options;
  options.targets = {"dns:///workers:9100"};
  options.resolve_interval = absl::Milliseconds(5);
  options.tick = absl::Milliseconds(5);
  options.resolve = [&](const std::string& name) -> absl::StatusOr<std::vector<std::string>> {
    EXPECT_EQ(name, "workers:9100");
    MutexLock lock(&mu);
    return behind;
  };
  WorkerTable table(options);
  const auto ready = [&table] {
    std::vector<std::string> out;
    for (const WorkerView& view : table.Snapshot().views) {
      if (view.facts->state == WorkerState::kReady) out.push_back(view.facts->address);
    }
    return out;
  };
  const auto await = [&ready](const std::vector<std::string>& want) {
    const absl::Time deadline = absl::Now() + FakeWorker::kPatience;
    while (ready() != want && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(2));
    EXPECT_THAT(ready(), ElementsAreArray(want));
  };
  EXPECT_THAT(table.Snapshot().views[0].facts->detail, HasSubstr("not looked up yet"));
  table.Start();
  await({a.address()});
  const WorkerSnapshot running = table.Snapshot();
  const auto leg = running.sessions[0]->Submit({}, 1, std::make_shared<SilentSink>());
  ASSERT_THAT(leg, IsOk());
  {
    MutexLock lock(&mu);
    behind = {b.address()};
  }
  await({b.address()});
  EXPECT_EQ(running.views[0].facts->state, WorkerState::kReady);
  const WorkerFacts retired = *running.sessions[0]->View().facts;
  EXPECT_EQ(retired.state, WorkerState::kDraining);
  EXPECT_THAT(retired.detail, HasSubstr("no name leads to it"));
  EXPECT_THAT(running.sessions[0]->Submit({}, 1, std::make_shared<SilentSink>()),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no name leads to it")));
  EXPECT_EQ(table.Snapshot().views.size(), 2u) << "it has a request to finish";
  running.sessions[0]->Leave(*leg, /*cancel=*/true);
  const absl::Time deadline = absl::Now() + FakeWorker::kPatience;
  while (table.Snapshot().views.size() > 1 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(2));
  }
  EXPECT_EQ(table.Snapshot().views.size(), 1u);
  table.Stop();
}

TEST(WorkerTable, ANameThatLeadsNowhereIsShownWithTheReason) {
  WorkerTable::Options options;
  options.targets = {"dns:///nowhere:1"};
  options.resolve = [](const std::string&) -> absl::StatusOr<std::vector<std::string>> {
    return absl::UnavailableError("no such name");
  };
  WorkerTable table(options);
  table.Start();
  const absl::Time deadline = absl::Now() + FakeWorker::kPatience;
  std::string detail;
  while (detail != "no such name" && absl::Now() < deadline) {
    detail = table.Snapshot().views.at(0).facts->detail;
  }
  EXPECT_EQ(detail, "no such name");
}

// A catalog of one model over workers that are connected.
class CatalogTest : public ::testing::Test {
 protected:
  void Start(const std::vector<std::string>& addresses, absl::Duration fetch_timeout) {
    WorkerTable::Options options;
    options.targets = addresses;
    table_ = std::make_unique<WorkerTable>(options);
    table_->Start();
    EXPECT_TRUE(Await([&] {
      for (const WorkerView& view : table_->Snapshot().views) {
        if (view.facts->state != WorkerState::kReady) return false;
      }
      return table_->Snapshot().views.size() == addresses.size();
    }));
    catalog_ = std::make_unique<ModelCatalog>(ModelCatalog::Options{
        .fetch_timeout = fetch_timeout, .retry_after = absl::Milliseconds(1), .workers = [this] {
          return table_->Snapshot();
        }});
    catalog_->Start();
  }
  static bool Await(const std::function<bool()>& condition) {
    const absl::Time deadline = absl::Now() + FakeWorker::kPatience;
    while (!condition() && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(2));
    return condition();
  }

  std::unique_ptr<WorkerTable> table_;
  std::unique_ptr<ModelCatalog> catalog_;
};

TEST_F(CatalogTest, AnotherWorkerIsAskedWhereOneDoesNotAnswer) {
  std::vector<std::string> ports;  // the first by address is asked first
  {
    FakeWorker one({});
    FakeWorker other({});
    ports = {std::min(one.address(), other.address()), std::max(one.address(), other.address())};
  }
  FakeWorker stalling({.listen = ports[0], .stall_assets = true});
  FakeWorker good({.listen = ports[1]});
  Start(ports, absl::Milliseconds(50));
  EXPECT_TRUE(Await([&] { return catalog_->Find("bytes").ok(); }));
}

TEST_F(CatalogTest, StoppingDoesNotWaitForFiles) {
  FakeWorker stalling({.stall_assets = true});
  Start({stalling.address()}, absl::InfiniteDuration());
  EXPECT_TRUE(Await([&] { return stalling.asset_requests() > 0; }));
  catalog_->Stop();  // the test would not end
}

TEST(Resolver, ResolvesAnAddressToItself) {
  EXPECT_THAT(*ResolveName("127.0.0.1:80"), ElementsAre("127.0.0.1:80"));
}

}  // namespace
}  // namespace tandem
