#include "tests/support/fake_worker.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/block_hash.h"
#include "base/grpc_status.h"
#include "base/status.h"
#include "tests/support/byte_tokenizer.h"

namespace tandem {
namespace {

namespace wv1 = worker::v1;

constexpr size_t kChunk = 1000;  // small, so that files come in several

}  // namespace

FakeWorker::FakeWorker(Options options)
    : options_(std::move(options)),
      files_({{"tokenizer.json", ByteTokenizerJson()},
              {"chat_template.jinja", ByteChatTemplate()},
              {"special_tokens.json", R"({"eos_token": "<|im_end|>"})"}}),
      heartbeats_(options_.heartbeats) {
  beat_.mutable_heartbeat()->set_step_number(41);
  for (const auto& [name, text] : options_.files) files_[name] = text;
  std::erase_if(files_, [](const auto& file) { return file.second.empty(); });
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options_.listen, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(this);
  builder.SetMaxReceiveMessageSize(64 << 20);
  server_ = builder.BuildAndStart();
  EXPECT_NE(port, 0) << "cannot listen on " << options_.listen;
  address_ = absl::StrCat("127.0.0.1:", port);
  beater_ = std::jthread([this](const std::stop_token& stop) { Beat(stop); });
}

FakeWorker::~FakeWorker() { Stop(); }

void FakeWorker::Stop() {
  beater_.request_stop();
  EndSession();
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
}

wv1::WorkerInfo FakeWorker::Info() const {
  wv1::WorkerInfo info;
  info.set_protocol_version(options_.protocol_version);
  info.set_incarnation(7);
  info.set_role(options_.role);
  info.set_model(options_.model);
  info.set_architecture("FakeForCausalLM");
  info.mutable_layout()->set_kv_abi(options_.kv_abi);
  info.mutable_layout()->set_weights_digest(options_.weights_digest);
  info.mutable_layout()->set_block_tokens(16);
  info.mutable_layout()->set_tensor_parallel(1);
  info.set_blocks(options_.blocks);
  info.set_max_context(options_.max_context);
  info.set_max_sequences(options_.max_sequences);
  info.set_vocabulary(kByteVocabulary);
  info.add_eos_token_ids(kImEnd);
  info.set_handoff_address(address_);
  for (const auto& [name, text] : files_) {
    wv1::Asset* asset = info.add_assets();
    asset->set_name(name);
    asset->set_digest(Sha256Hex(text));
    asset->set_bytes(text.size());
  }
  return info;
}

grpc::Status FakeWorker::Session(grpc::ServerContext* context, Stream* stream) {
  wv1::SessionRequest message;
  if (!stream->Read(&message) || !message.has_hello()) {
    return {grpc::StatusCode::FAILED_PRECONDITION, "want a hello first"};
  }
  wv1::SessionResponse hello;
  *hello.mutable_hello() = Info();
  {
    MutexLock lock(&mu_);
    stream->Write(hello);
    hello_ = message.hello();
    ++hellos_;
    stream_ = stream;
    context_ = context;
    changed_.NotifyAll();
  }
  while (stream->Read(&message)) Note(message);
  MutexLock lock(&mu_);
  stream_ = nullptr;
  context_ = nullptr;
  changed_.NotifyAll();
  return grpc::Status::OK;
}

void FakeWorker::Note(const wv1::SessionRequest& message) {
  std::vector<int32_t> answer;
  {
    MutexLock lock(&mu_);
    if (message.has_submit()) {
      submits_.push_back(message.submit());
      attempts_[message.submit().handle()] = message.submit().attempt();
    }
    if (message.cancel().has_output_index()) {
      cancelled_outputs_.emplace(message.cancel().handle(), message.cancel().output_index());
    } else if (message.has_cancel()) {
      ++cancelled_[message.cancel().handle()];
    }
    if (message.has_pause()) ++paused_[message.pause().handle()];
    if (message.has_resume()) ++resumed_[message.resume().handle()];
    if (message.has_ping()) ++pings_;
    changed_.NotifyAll();
    if (!answer_all_ || !message.has_submit()) return;
    answer = answer_;
  }
  AnswerBy(message.submit(), answer);
}

void FakeWorker::AnswerBy(const wv1::Submit& submit, const std::vector<int32_t>& ids) {
  Accept(submit.handle());
  const size_t count = std::min<size_t>(ids.size(), submit.stopping().max_tokens());
  const uint32_t resumed = submit.resume_size() > 0 ? submit.resume(0).token_ids_size() : 0;
  for (uint32_t i = resumed; i < count; ++i) {
    FakeTokens tokens = {.first_index = i, .ids = {ids[i]}};
    tokens.finish = i + 1 == count;
    tokens.reason = count < ids.size() ? inference::v1::FINISH_REASON_LENGTH
                                       : inference::v1::FINISH_REASON_STOP;
    Send(submit.handle(), tokens);
  }
}

grpc::Status FakeWorker::GetAssets(grpc::ServerContext* context,
                                   const wv1::GetAssetsRequest* request,
                                   grpc::ServerWriter<wv1::GetAssetsResponse>* writer) {
  {
    MutexLock lock(&mu_);
    ++asset_requests_;
    changed_.NotifyAll();
    while (options_.stall_assets && !context->IsCancelled()) {
      changed_.WaitFor(&mu_, absl::Milliseconds(5));
    }
  }
  for (const auto& [name, text] : files_) {
    const std::string digest = Sha256Hex(text);
    if (std::find(request->digests().begin(), request->digests().end(), digest) ==
        request->digests().end()) {
      continue;
    }
    for (size_t at = 0; at < text.size(); at += kChunk) {
      wv1::GetAssetsResponse chunk;
      if (at == 0) chunk.set_name(name);
      chunk.set_digest(digest);
      chunk.set_data(text.substr(at, kChunk));
      if (options_.corrupt_assets) (*chunk.mutable_data())[0] ^= 1;
      chunk.set_last(at + kChunk >= text.size());
      writer->Write(chunk);
    }
  }
  return grpc::Status::OK;
}

int FakeWorker::asset_requests() const {
  MutexLock lock(&mu_);
  return asset_requests_;
}

bool FakeWorker::AwaitUntil(const std::function<bool()>& done) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (!done()) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitFor(&mu_, left);
  }
  return true;
}

wv1::Submit FakeWorker::NextSubmit() {
  MutexLock lock(&mu_);
  if (!AwaitUntil([this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !submits_.empty(); })) {
    ADD_FAILURE() << "no request reached the worker";
    return {};
  }
  wv1::Submit submit = std::move(submits_.front());
  submits_.erase(submits_.begin());
  return submit;
}

bool FakeWorker::Await(Counts FakeWorker::* counts, uint64_t handle, int times) {
  MutexLock lock(&mu_);
  return AwaitUntil([&] {
    const auto found = (this->*counts).find(handle);
    return found != (this->*counts).end() && found->second >= times;
  });
}

bool FakeWorker::AwaitCancelOrEnd(uint64_t handle) {
  MutexLock lock(&mu_);
  return AwaitUntil([this, handle]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return stream_ == nullptr || cancelled_.contains(handle);
  });
}

bool FakeWorker::AwaitCancelOutput(uint64_t handle, uint32_t output) {
  MutexLock lock(&mu_);
  return AwaitUntil([this, handle, output]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return cancelled_outputs_.contains({handle, output});
  });
}

bool FakeWorker::AwaitSession() {
  MutexLock lock(&mu_);
  return AwaitUntil([this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stream_ != nullptr; });
}

bool FakeWorker::AwaitPings(int count) {
  MutexLock lock(&mu_);
  return AwaitUntil([this, count]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return pings_ >= count; });
}

int FakeWorker::pings() const {
  MutexLock lock(&mu_);
  return pings_;
}

int FakeWorker::hellos() const {
  MutexLock lock(&mu_);
  return hellos_;
}

wv1::RouterHello FakeWorker::hello() const {
  MutexLock lock(&mu_);
  return hello_;
}

bool FakeWorker::cancelled(uint64_t handle) const {
  MutexLock lock(&mu_);
  return cancelled_.contains(handle);
}

bool FakeWorker::resumed(uint64_t handle) const {
  MutexLock lock(&mu_);
  return resumed_.contains(handle);
}

bool FakeWorker::paused(uint64_t handle) const {
  MutexLock lock(&mu_);
  const auto pauses = paused_.find(handle);
  const auto resumes = resumed_.find(handle);
  return pauses != paused_.end() &&
         pauses->second > (resumes == resumed_.end() ? 0 : resumes->second);
}

void FakeWorker::Write(const wv1::SessionResponse& message) {
  MutexLock lock(&mu_);
  if (stream_ != nullptr) stream_->Write(message);
}

void FakeWorker::Accept(uint64_t handle, uint32_t cached_tokens) {
  wv1::SessionResponse message;
  message.mutable_accepted()->set_handle(handle);
  message.mutable_accepted()->set_cached_tokens(cached_tokens);
  Write(message);
}

void FakeWorker::Refuse(uint64_t handle, int code, const std::string& why) {
  wv1::SessionResponse message;
  message.mutable_refused()->set_handle(handle);
  message.mutable_refused()->mutable_status()->set_code(code);
  message.mutable_refused()->mutable_status()->set_message(why);
  Write(message);
}

bool FakeWorker::has_submit() const {
  MutexLock lock(&mu_);
  return !submits_.empty();
}

void FakeWorker::RefuseAsDraining(uint64_t handle) {
  wv1::SessionResponse message;
  message.mutable_refused()->set_handle(handle);
  *message.mutable_refused()->mutable_status() =
      ToRpcStatus(WithReason(absl::UnavailableError("this worker is draining"), kDrainingReason));
  Write(message);
}

void FakeWorker::Send(uint64_t handle, const FakeTokens& tokens) {
  wv1::SequenceStep step;
  step.set_handle(handle);
  step.set_output_index(tokens.output);
  step.set_first_index(tokens.first_index);
  step.mutable_token_ids()->Add(tokens.ids.begin(), tokens.ids.end());
  for (size_t i = 0; i < tokens.logprobs.size(); ++i) {
    auto* token = step.add_logprobs()->mutable_token();
    token->set_token_id(tokens.ids[i]);
    token->set_logprob(tokens.logprobs[i]);
    token->set_rank(1);
  }
  if (tokens.finish) step.mutable_finish()->set_reason(tokens.reason);
  step.set_cached_tokens(tokens.cached_tokens);
  if (tokens.finish && tokens.stop_token_id >= 0) {
    step.mutable_finish()->set_stop_token_id(tokens.stop_token_id);
  }
  SendStep(std::move(step));
}

void FakeWorker::SendStep(wv1::SequenceStep step) {
  if (step.attempt() == 0) {
    MutexLock lock(&mu_);
    step.set_attempt(attempts_[step.handle()]);
  }
  wv1::SessionResponse message;
  *message.mutable_step()->add_sequences() = std::move(step);
  Write(message);
}

void FakeWorker::SendHandoffDone(uint64_t handle, uint64_t kv_bytes) {
  wv1::SequenceStep step;
  step.set_handle(handle);
  step.mutable_handoff()->set_kv_bytes(kv_bytes);
  SendStep(std::move(step));
}

void FakeWorker::SendError(uint64_t handle, int code, const std::string& why) {
  wv1::SequenceStep step;
  step.set_handle(handle);
  step.mutable_error()->set_code(code);
  step.mutable_error()->set_message(why);
  SendStep(std::move(step));
}

void FakeWorker::SendLoad(const wv1::Load& load) {
  wv1::SessionResponse message;
  *message.mutable_load() = load;
  Write(message);
}

void FakeWorker::AnswerAll(absl::string_view text) {
  MutexLock lock(&mu_);
  answer_all_ = true;
  answer_ = Bytes(text);
}

void FakeWorker::SetHeartbeats(bool on) {
  MutexLock lock(&mu_);
  heartbeats_ = on;
}

void FakeWorker::SetEngineAge(absl::Duration age) {
  MutexLock lock(&mu_);
  beat_.mutable_heartbeat()->set_engine_age_ms(absl::ToInt64Milliseconds(age));
  if (stream_ != nullptr) stream_->Write(beat_);
}

void FakeWorker::EndSession() {
  MutexLock lock(&mu_);
  if (context_ != nullptr) context_->TryCancel();
}

void FakeWorker::Beat(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    {
      MutexLock lock(&mu_);
      if (heartbeats_ && stream_ != nullptr) stream_->Write(beat_);
      changed_.WaitFor(&mu_, absl::Milliseconds(20));
    }
  }
}

}  // namespace tandem
