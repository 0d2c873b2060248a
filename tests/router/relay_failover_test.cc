// A relay's attempts on workers that answer at the worst moment, also before Submit has returned.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/grpc_status.h"
#include "router/api/relay.h"
#include "tests/support/byte_text.h"

namespace tandem {
namespace {

namespace wv1 = worker::v1;

using ::testing::ElementsAre;

// A worker that says what the test has it say.
class ScriptedChannel final : public WorkerChannel {
 public:
  absl::StatusOr<uint64_t> Submit(wv1::Submit submit, uint64_t,
                                  std::shared_ptr<LegSink> sink) override {
    this->submit = std::move(submit);
    this->sink = sink;
    if (on_submit) on_submit(*sink);
    return ++handles_;
  }
  void Leave(uint64_t handle, bool cancel) override {
    if (cancel) cancelled.push_back(handle);
  }
  void CancelOutput(uint64_t, uint32_t) override {}
  void Pause(uint64_t) override {}
  void Resume(uint64_t) override {}

  std::function<void(LegSink&)> on_submit;
  std::optional<wv1::Submit> submit;  // the last one
  std::shared_ptr<LegSink> sink;
  std::vector<uint64_t> cancelled;

 private:
  uint64_t handles_ = 0;
};

struct Tokens {
  uint32_t attempt = 1;
  uint32_t first_index = 0;
  absl::string_view text;
  bool logprobs = true;
  bool finish = false;
  uint32_t cached_tokens = 0;
};

wv1::SequenceStep StepOf(const Tokens& tokens) {
  wv1::SequenceStep step;
  step.set_attempt(tokens.attempt);
  step.set_first_index(tokens.first_index);
  for (const int32_t id : Bytes(tokens.text)) {
    step.add_token_ids(id);
    if (tokens.logprobs) step.add_logprobs()->mutable_token()->set_token_id(id);
  }
  if (tokens.finish) step.mutable_finish()->set_reason(inference::v1::FINISH_REASON_STOP);
  step.set_cached_tokens(tokens.cached_tokens);
  return step;
}

wv1::SequenceStep ErrorOf(uint32_t attempt, const absl::Status& why) {
  wv1::SequenceStep step;
  step.set_attempt(attempt);
  *step.mutable_error() = ToRpcStatus(why);
  return step;
}

class RelayFailoverTest : public ::testing::Test {
 protected:
  // A channel and the relay that it was left with have each other.
  void TearDown() override {
    for (auto& [name, channel] : channels_) channel->sink = nullptr;
  }

  // One worker a name; an attempt goes to those that `plan` gives it, the decode worker first.
  using Attempts = std::vector<std::vector<std::string>>;

  void Start(Attempts plan) {
    Relay::Options options;
    options.metrics = &metrics_;
    relay_ = std::make_shared<Relay>(options);
    Relay::Plan answer;
    answer.start.set_prompt_tokens(2);
    answer.max_tokens = 9;
    answer.want_logprobs = true;
    std::vector<Deltas> deltas;
    deltas.push_back(*Deltas::Create(*ByteText(), {}));
    ASSERT_TRUE(relay_->Begin(std::move(answer), std::move(deltas),
                              [this, plan](const RelayAttempt& attempt) {
                                return Make(attempt, plan.at(attempt.number - 1));
                              }));
    relay_->Dispatch();
  }
  absl::Status Make(const RelayAttempt& attempt, const std::vector<std::string>& workers) {
    attempts_ = attempt.number;
    if (workers.size() > 1) relay_->ExpectPrefill(attempt.number);
    for (size_t i = 0; i < workers.size(); ++i) {
      Relay::LegOrder order;
      order.kind = i == 0 ? LegKind::kDecode : LegKind::kPrefill;
      order.attempt = attempt.number;
      order.address = workers[i];
      order.kv_abi = workers[i].substr(0, 1);
      order.session = At(workers[i]);
      order.submit.mutable_resume()->Add(attempt.resume.begin(), attempt.resume.end());
      if (!relay_->AddLeg(std::move(order))) break;
    }
    return absl::OkStatus();
  }
  std::shared_ptr<ScriptedChannel> At(const std::string& worker) {
    std::shared_ptr<ScriptedChannel>& channel = channels_[worker];
    if (channel == nullptr) channel = std::make_shared<ScriptedChannel>();
    return channel;
  }
  Relay::Chunk All() {
    std::optional<Relay::Chunk> chunk = relay_->Take(/*whole=*/true);
    EXPECT_TRUE(chunk.has_value()) << "it has not ended";
    if (!chunk) chunk.emplace().end = absl::UnknownError("it has not ended");
    if (chunk->message.outputs().empty()) chunk->message.add_outputs();
    return *std::move(chunk);
  }

  MetricRegistry registry_;
  RouterMetrics metrics_{&registry_};
  std::map<std::string, std::shared_ptr<ScriptedChannel>> channels_;
  std::shared_ptr<Relay> relay_;
  uint32_t attempts_ = 0;  // that were made
};

TEST_F(RelayFailoverTest, APrefillWorkerThatHasHandedOverMayDieBeforeTheDecodeWorkerSpeaks) {
  Start({{"d", "p"}, {"u"}});
  At("p")->sink->OnStep(StepOf({.text = "a"}));
  wv1::SequenceStep handed;
  handed.set_attempt(1);
  handed.mutable_handoff()->set_kv_bytes(64);
  At("p")->sink->OnStep(handed);
  At("p")->sink->OnLost(absl::UnavailableError("killed"));
  EXPECT_EQ(attempts_, 1u);
  EXPECT_THAT(At("d")->cancelled, ElementsAre());
  At("d")->sink->OnStep(StepOf({.text = "a", .logprobs = false}));
  At("d")->sink->OnStep(StepOf({.first_index = 1, .text = "b", .finish = true}));
  const Relay::Chunk all = All();
  EXPECT_TRUE(all.end->ok()) << *all.end;
  EXPECT_EQ(all.message.outputs(0).text(), "ab");
  EXPECT_EQ(all.message.end().serving().attempts(), 1u);
}

TEST_F(RelayFailoverTest, ADecodeWorkerThatGivesUpBeforeThePrefillWorkerIsAskedIsNotWaitedFor) {
  At("d")->on_submit = [](LegSink& leg) {
    leg.OnStep(ErrorOf(1, absl::AbortedError("the handoff was given up")));
  };
  Start({{"d", "p"}, {"u"}});
  EXPECT_FALSE(At("p")->submit.has_value());
  ASSERT_TRUE(At("u")->submit.has_value()) << "it waits for what nobody will say";
  At("u")->sink->OnStep(StepOf({.attempt = 2, .text = "ok", .finish = true}));
  EXPECT_EQ(All().message.outputs(0).text(), "ok");
}

TEST_F(RelayFailoverTest, WhatAnotherArithmeticMadeAndNobodyWasSentIsForgotten) {
  Start({{"a-d", "a-p"}, {"b-u"}});
  At("a-d")->sink->OnStep(StepOf({.text = "x", .logprobs = false}));
  At("a-d")->sink->OnStep(StepOf({.first_index = 1, .text = "y", .finish = true}));
  At("a-p")->sink->OnLost(absl::UnavailableError("killed"));
  ASSERT_TRUE(At("b-u")->submit.has_value());
  EXPECT_EQ(At("b-u")->submit->resume_size(), 0);
  At("b-u")->sink->OnStep(StepOf({.attempt = 2, .text = "other", .finish = true}));
  const Relay::Chunk all = All();
  EXPECT_TRUE(all.end->ok()) << *all.end;
  EXPECT_EQ(all.message.outputs(0).text(), "other");
  EXPECT_EQ(metrics_.token_conflicts.Value(), 0);
}

TEST_F(RelayFailoverTest, AWorkerThatLacksSomethingKillsNobody) {
  Start({{"u"}});
  At("u")->sink->OnRefused(absl::FailedPreconditionError("guided: no tokenizer.json"));
  EXPECT_EQ(All().end->code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(metrics_.quarantined_requests.Value(), 0);
}

TEST_F(RelayFailoverTest, TokensFromTheCacheAreCountedThoughTheirWorkerIsGone) {
  Start({{"u"}, {"v"}});
  At("u")->sink->OnStep(StepOf({.text = "a", .cached_tokens = 2}));
  At("u")->sink->OnLost(absl::UnavailableError("killed"));
  At("v")->sink->OnStep(StepOf({.attempt = 2, .first_index = 1, .text = "b", .finish = true}));
  EXPECT_EQ(relay_->Outcome().cached_tokens, 2u);
  EXPECT_EQ(All().message.end().usage().cached_tokens(), 2u);
}

TEST_F(RelayFailoverTest, ARequestThatEndsWhileALegIsMadeIsCancelledThere) {
  At("d")->on_submit = [this](LegSink&) { relay_->Fail(absl::CancelledError("left")); };
  Start({{"d", "p"}});
  EXPECT_THAT(At("d")->cancelled, ElementsAre(1u));
  EXPECT_FALSE(At("p")->submit.has_value());
}

}  // namespace
}  // namespace tandem
