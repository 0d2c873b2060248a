#include "client/answer.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>

#include <nlohmann/json.hpp>

namespace tandem {
namespace {

namespace v1 = inference::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::GenerateResponse Message(const std::string& text) {
  v1::GenerateResponse response;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &response)) << text;
  return response;
}

// 3 prompt tokens, 3 produced: the first after 100 ms, the last after 300.
Answer Streamed() {
  const absl::Time sent = absl::FromUnixSeconds(1);
  Answer answer(sent);
  answer.Add(Message("start {request_id: 'r' model: 'm' seed: 18446744073709551615}"),
             sent + absl::Milliseconds(50));
  answer.Add(Message("outputs {text: 'He' token_ids: [5, 6] logprobs {token {token_id: 5 logprob: "
                     "-0.1 rank: 1} top {token_id: 5 logprob: -0.1 rank: 1}} logprobs {token "
                     "{token_id: 6 logprob: -2 rank: 3}}}"),
             sent + absl::Milliseconds(100));
  answer.Add(Message("outputs {text: 'llo' token_ids: 7 finish {reason: FINISH_REASON_LENGTH}}"
                     "end {usage {prompt_tokens: 3 completion_tokens: 3} serving {prefill_worker: "
                     "'p:1' decode_worker: 'd:2' attempts: 1 kv_bytes: 1234567}}"),
             sent + absl::Milliseconds(300));
  return answer;
}

TEST(Answer, DeltasJoinToTheWholeOutput) {
  const Answer answer = Streamed();
  ASSERT_EQ(answer.outputs().size(), 1);
  EXPECT_EQ(answer.outputs()[0].text, "Hello");
  EXPECT_THAT(answer.outputs()[0].token_ids, ElementsAre(5, 6, 7));
  EXPECT_EQ(answer.outputs()[0].finish.reason(), v1::FINISH_REASON_LENGTH);
}

TEST(Answer, TimeToFirstTokenIsNotTheTimeToTheFirstMessage) {
  const Answer answer = Streamed();
  EXPECT_EQ(answer.first_token(), absl::Milliseconds(100));
  EXPECT_EQ(answer.total(), absl::Milliseconds(300));
  EXPECT_DOUBLE_EQ(answer.tokens_per_second(), 10);  // 2 more tokens in 200 ms
}

TEST(Answer, AnOutputIndexOutOfTheContractIsIgnored) {
  Answer answer(absl::UnixEpoch());
  answer.Add(Message("outputs {index: 4000000000 text: 'x'}"), absl::UnixEpoch());
  EXPECT_TRUE(answer.outputs().empty());
}

TEST(Answer, TheSummaryNamesEveryProcess) {
  EXPECT_EQ(
      Summary(Streamed(), "r:3"),
      "router r:3 -> prefill p:1 -> decode d:2 | 3 prompt + 3 completion tokens | TTFT 100 ms | "
      "10.0 tokens/s | 1.2 MB of KV handed over");
}

TEST(Answer, LogprobsAreATableOfPositions) {
  EXPECT_THAT(LogprobLines(Streamed()),
              ElementsAre("log-probabilities of the answer",
                          "  position   token   logprob    rank | the likeliest",
                          "         0       5   -0.1000       1 |      5   -0.1000",
                          "         1       6   -2.0000       3"));
}

TEST(Answer, AFirstPromptTokenHasNoLogprob) {
  Answer answer(absl::UnixEpoch());
  answer.Add(Message("start {prompt_logprobs {} prompt_logprobs {token {token_id: 299 logprob: "
                     "-12.34567 rank: 30}}}"),
             absl::UnixEpoch());
  EXPECT_THAT(
      LogprobLines(answer),
      ElementsAre("log-probabilities of the prompt",
                  "  position   token   logprob    rank | the likeliest",
                  "         0       -         -       -", "         1     299  -12.3457      30"));
}

TEST(Answer, JsonHoldsWhatProgramsCompare) {
  const auto json = nlohmann::json::parse(OutputJson(Streamed(), 0));
  EXPECT_EQ(json["text"], "Hello");
  EXPECT_EQ(json["token_ids"], nlohmann::json({5, 6, 7}));
  EXPECT_EQ(json["seed"], 18446744073709551615u);
  EXPECT_EQ(json["finish_reason"], "length");
  EXPECT_EQ(json["usage"]["completion_tokens"], 3);
  EXPECT_EQ(json["workers"]["prefill"], "p:1");
  EXPECT_EQ(json["attempts"], 1);
  EXPECT_EQ(json["kv_bytes"], 1234567);
  EXPECT_EQ(json["ttft_ms"], 100);
  EXPECT_EQ(json["e2e_ms"], 300);
  ASSERT_EQ(json["logprobs"].size(), 2);
  EXPECT_EQ(json["logprobs"][0]["logprob"].get<float>(), -0.1f);  // to the last bit
  EXPECT_EQ(json["logprobs"][0]["top"][0]["token_id"], 5);
}

}  // namespace
}  // namespace tandem
