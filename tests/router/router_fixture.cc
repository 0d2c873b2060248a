#include "tests/router/router_fixture.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/config.h"
#include "base/grpc_status.h"

namespace tandem {

namespace iv1 = inference::v1;

iv1::GenerateResponse Answer::Joined() const {
  iv1::GenerateResponse out;
  for (const iv1::GenerateResponse& message : messages) {
    if (message.has_start()) *out.mutable_start() = message.start();
    if (message.has_end()) *out.mutable_end() = message.end();
    for (const iv1::OutputDelta& delta : message.outputs()) {
      while (out.outputs_size() <= static_cast<int>(delta.index())) out.add_outputs();
      iv1::OutputDelta* whole = out.mutable_outputs(static_cast<int>(delta.index()));
      whole->set_index(delta.index());
      whole->mutable_text()->append(delta.text());
      whole->mutable_token_ids()->MergeFrom(delta.token_ids());
      whole->mutable_logprobs()->MergeFrom(delta.logprobs());
      if (delta.has_finish()) *whole->mutable_finish() = delta.finish();
    }
  }
  return out;
}

std::string ReasonOf(const grpc::Status& status) {
  const auto info = DetailOf<google::rpc::ErrorInfo>(FromGrpcStatus(status));
  return info ? info->reason() : "no ErrorInfo";
}

Call::Call(iv1::InferenceService::Stub* stub, const iv1::GenerateRequest& request,
           absl::Duration timeout) {
  context_.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  reader_ = stub->Generate(&context_, request);
}

iv1::GenerateResponse Call::Next() {
  iv1::GenerateResponse message;
  if (!reader_->Read(&message)) {
    const grpc::Status status = reader_->Finish();
    ADD_FAILURE() << "the stream has ended: " << status.error_code() << " "
                  << status.error_message();
  }
  return message;
}

Answer Call::Rest() {
  Answer answer;
  iv1::GenerateResponse message;
  while (reader_->Read(&message)) answer.messages.push_back(message);
  answer.status = reader_->Finish();
  return answer;
}

RouterFixture::RouterFixture(const Options& options) {
  std::vector<std::string> sets = {
      "server.listen=127.0.0.1:0", "observability.listen=127.0.0.1:0", "drain_timeout=10s",
      absl::StrCat("store.sqlite_file=", folder_.path(), "/tandem.db"),
      absl::StrCat("workers=[", absl::StrJoin(options.workers, ", "), "]")};
  sets.insert(sets.end(), options.sets.begin(), options.sets.end());
  absl::StatusOr<config::v1::RouterConfig> config = LoadConfig<config::v1::RouterConfig>("", sets);
  EXPECT_TRUE(config.ok()) << config.status();
  absl::StatusOr<std::unique_ptr<Router>> router = Router::Start(*config, options.clock);
  EXPECT_TRUE(router.ok()) << router.status();
  router_ = *std::move(router);
  grpc::ChannelArguments args;
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  if (options.stream_window > 0) {
    args.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    args.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, static_cast<int>(options.stream_window));
  }
  channel_ = grpc::CreateCustomChannel(router_->grpc_address().ToString(),
                                       grpc::InsecureChannelCredentials(), args);
  stub_ = iv1::InferenceService::NewStub(channel_);
}

// Polls: what is waited for is another thread's state, which has no event of its own.
bool RouterFixture::Await(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + FakeWorker::kPatience;
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(2));
  }
  return true;
}

void RouterFixture::AwaitWorkers(uint32_t count) {
  uint32_t ready = 0;
  const bool came = Await([&] {
    grpc::ClientContext context;
    iv1::ListModelsResponse models;
    (void)stub_->ListModels(&context, {}, &models);
    ready = 0;
    for (const iv1::Model& model : models.models()) {
      ready += model.prefill_workers() + model.decode_workers() + model.unified_workers();
    }
    return ready == count;
  });
  ASSERT_TRUE(came) << ready << " workers are ready, want " << count;
}

std::unique_ptr<Call> RouterFixture::Generate(const iv1::GenerateRequest& request,
                                              absl::Duration timeout) {
  return std::make_unique<Call>(stub_.get(), request, timeout);
}

Answer RouterFixture::GenerateAll(const iv1::GenerateRequest& request) {
  return Generate(request)->Rest();
}

Answer RouterFixture::GenerateOnce(const iv1::GenerateRequest& request) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(30)));
  Answer answer;
  answer.status = stub_->GenerateOnce(&context, request, &answer.messages.emplace_back());
  return answer;
}

iv1::GenerateRequest TextRequest(const std::string& text, uint32_t max_tokens) {
  iv1::GenerateRequest request;
  request.set_text(text);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  request.mutable_response()->set_token_ids(true);
  return request;
}

}  // namespace tandem
