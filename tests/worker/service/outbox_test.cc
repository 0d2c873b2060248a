#include "worker/service/outbox.h"

#include <gmock/gmock.h>
#include <google/rpc/error_details.pb.h>
#include <gtest/gtest.h>

#include "base/grpc_status.h"
#include "worker/service/messages.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;

SequenceOutput Tokens(uint64_t handle, uint32_t first_index, std::vector<int32_t> ids) {
  SequenceOutput output;
  output.handle = handle;
  output.first_index = first_index;
  output.token_ids = std::move(ids);
  return output;
}

StepOutput Step(uint64_t number, std::vector<SequenceOutput> sequences) {
  return {number, std::move(sequences)};
}

std::vector<int32_t> Ids(const worker::v1::SequenceStep& step) {
  return {step.token_ids().begin(), step.token_ids().end()};
}

TEST(Outbox, StepsThatWaitBecomeOneMessage) {
  Outbox outbox;
  outbox.Step(Step(1, {Tokens(1, 0, {10}), Tokens(2, 0, {20})}));
  outbox.Step(Step(2, {Tokens(1, 1, {11}), Tokens(2, 1, {21})}));
  SequenceOutput last = Tokens(1, 2, {12});
  last.finish = SequenceFinish{FinishReason::kStop, 12};
  outbox.Step(Step(3, {last}));
  const auto message = outbox.Next();
  ASSERT_TRUE(message && message->has_step());
  EXPECT_EQ(message->step().step_number(), 3u);
  ASSERT_EQ(message->step().sequences_size(), 2);
  EXPECT_THAT(Ids(message->step().sequences(0)), ElementsAre(10, 11, 12));
  EXPECT_EQ(message->step().sequences(0).finish().stop_token_id(), 12);
  EXPECT_THAT(Ids(message->step().sequences(1)), ElementsAre(20, 21));
  EXPECT_FALSE(outbox.Next().has_value());
  EXPECT_EQ(outbox.bytes(), 0u);
}

TEST(Outbox, AnotherAttemptOrAnEndedOneIsNotJoined) {
  Outbox outbox;
  SequenceOutput ended = Tokens(1, 0, {10});
  ended.finish = SequenceFinish{FinishReason::kLength, std::nullopt};
  SequenceOutput handed_over = Tokens(1, 1, {});
  handed_over.handoff = HandoffSent{512, absl::Microseconds(70)};
  SequenceOutput retried = Tokens(2, 1, {21});
  retried.attempt = 1;
  outbox.Step(Step(1, {ended, handed_over, Tokens(2, 0, {20}), retried}));
  const auto message = outbox.Next();
  ASSERT_EQ(message->step().sequences_size(), 4);
  EXPECT_EQ(message->step().sequences(1).handoff().kv_bytes(), 512u);
  EXPECT_EQ(message->step().sequences(1).handoff().duration_us(), 70u);
  EXPECT_EQ(message->step().sequences(3).attempt(), 1u);
}

TEST(Outbox, TokensWithAndWithoutLogprobsStayApart) {
  Outbox outbox;
  SequenceOutput second = Tokens(1, 1, {11}), third = Tokens(1, 2, {12});
  second.logprobs = third.logprobs = {{{11, -0.5f, 1}, {}}};
  outbox.Step(Step(1, {Tokens(1, 0, {10}), second, third}));
  const auto message = outbox.Next();
  ASSERT_EQ(message->step().sequences_size(), 2);
  EXPECT_EQ(message->step().sequences(0).logprobs_size(), 0);
  EXPECT_EQ(message->step().sequences(1).token_ids_size(), 2);
  EXPECT_EQ(message->step().sequences(1).logprobs_size(), 2);
}

TEST(Outbox, RepliesGoFirstAndOnlyTheLastLoadIsTold) {
  Outbox outbox;
  outbox.Step(Step(1, {Tokens(1, 0, {10})}));
  worker::v1::Load load;
  load.set_waiting(1);
  outbox.SetLoad(load);
  load.set_waiting(2);
  outbox.SetLoad(load);
  outbox.SetHeartbeat(ToProto(EngineProgress{9, absl::Milliseconds(15)}));
  worker::v1::SessionResponse accepted;
  accepted.mutable_accepted()->set_handle(1);
  outbox.Reply(accepted);
  EXPECT_TRUE(outbox.Next()->has_accepted());
  const auto heartbeat = outbox.Next();
  EXPECT_EQ(heartbeat->heartbeat().step_number(), 9u);
  EXPECT_EQ(heartbeat->heartbeat().engine_age_ms(), 15u);
  EXPECT_EQ(outbox.Next()->load().waiting(), 2u);
  EXPECT_TRUE(outbox.Next()->has_step());
  EXPECT_FALSE(outbox.Next().has_value());
}

TEST(Outbox, LargeStepsGoInSeveralMessagesAndKeepTheirOrder) {
  Outbox outbox;
  StepOutput step;
  for (uint64_t handle = 0; handle < 20; ++handle) {
    step.sequences.push_back(Tokens(handle, 0, std::vector<int32_t>(10'000, 1)));
  }
  outbox.Step(std::move(step));
  EXPECT_GE(outbox.bytes(), 800'000u);
  int messages = 0;
  std::vector<uint64_t> handles;
  while (const auto message = outbox.Next()) {
    ++messages;
    EXPECT_LT(message->ByteSizeLong(), 320u << 10);
    for (const auto& sequence : message->step().sequences()) handles.push_back(sequence.handle());
    if (messages == 1) outbox.Step(Step(2, {Tokens(19, 10'000, {5}), Tokens(0, 10'000, {6})}));
  }
  EXPECT_EQ(messages, 3);
  ASSERT_EQ(handles.size(), 21u) << "19 was still waiting and is joined, 0 had gone";
  EXPECT_EQ(handles.back(), 0u);
  EXPECT_TRUE(std::is_sorted(handles.begin(), handles.end() - 1));
}

TEST(Messages, UnavailableSaysWhenToTryAgain) {
  SequenceOutput failed = Tokens(1, 0, {});
  failed.error = absl::UnavailableError("no KV blocks");
  const absl::Status status = FromRpcStatus(ToProto(failed).error());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  ASSERT_TRUE(DetailOf<google::rpc::RetryInfo>(status).has_value());
  EXPECT_EQ(DetailOf<google::rpc::RetryInfo>(status)->retry_delay().seconds(), 1);
  failed.error = absl::InternalError("a bug");
  EXPECT_FALSE(
      DetailOf<google::rpc::RetryInfo>(FromRpcStatus(ToProto(failed).error())).has_value());
}

TEST(Messages, TheFirstPromptPositionHasNoToken) {
  SequenceOutput output = Tokens(1, 0, {4});
  output.prompt_logprobs = {{}, {{7, -0.5f, 2}, {{9, -0.25f, 1}}}};
  const worker::v1::SequenceStep step = ToProto(output);
  ASSERT_EQ(step.prompt_logprobs_size(), 2);
  EXPECT_FALSE(step.prompt_logprobs(0).has_token());
  EXPECT_EQ(step.prompt_logprobs(1).token().token_id(), 7);
  EXPECT_EQ(step.prompt_logprobs(1).token().rank(), 2u);
  EXPECT_EQ(step.prompt_logprobs(1).top(0).logprob(), -0.25f);
}

TEST(Outbox, TokensOfOneOutputJoinAndTheRequestsEndStaysBehindThoseOfAll) {
  Outbox outbox;
  const auto of_output = [](uint32_t output, uint32_t first_index, int32_t id) {
    SequenceOutput tokens = Tokens(1, first_index, {id});
    tokens.output_index = output;
    return tokens;
  };
  outbox.Step(Step(1, {of_output(0, 0, 10), of_output(1, 0, 20)}));
  outbox.Step(Step(2, {of_output(0, 1, 11), of_output(1, 1, 21)}));
  SequenceOutput handed_over = Tokens(1, 2, {});
  handed_over.handoff = HandoffSent{512, absl::Microseconds(70)};
  SequenceOutput failed = Tokens(1, 2, {});
  failed.error = absl::InternalError("broken");
  outbox.Step(Step(3, {handed_over, failed}));
  const auto message = outbox.Next();
  ASSERT_EQ(message->step().sequences_size(), 4);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(message->step().sequences(i).output_index(), i);
    EXPECT_THAT(Ids(message->step().sequences(i)), ElementsAre(10 + 10 * i, 11 + 10 * i));
  }
  EXPECT_TRUE(message->step().sequences(2).has_handoff());
  EXPECT_TRUE(message->step().sequences(3).has_error());
}

}  // namespace
}  // namespace tandem
