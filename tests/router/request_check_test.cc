#include "router/api/request_check.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wrong_requests.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;

using ::testing::ElementsAre;
using ::testing::HasSubstr;

iv1::GenerateRequest Parse(const std::string& text) {
  iv1::GenerateRequest request;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
  return request;
}

std::vector<std::string> WrongFields(const absl::Status& status) {
  std::vector<std::string> out;
  const auto bad = DetailOf<google::rpc::BadRequest>(status);
  if (!bad) return out;
  for (const auto& violation : bad->field_violations()) out.push_back(violation.field());
  return out;
}

TEST(RequestCheck, AcceptsWhatIsHonoured) {
  EXPECT_THAT(CheckRequest(Parse(R"(text: "hi")")), IsOk());
  EXPECT_THAT(CheckRequest(Parse(R"(
                request_id: "a b!" model: "m" text: "hi" truncate_prompt_tokens: 1
                sampling { temperature: 0 top_p: 1 top_k: 0 min_p: 0 seed: 0 n: 1
                           presence_penalty: 2 frequency_penalty: -2 repetition_penalty: 10
                           allowed_token_ids: 1 logit_bias { key: 1 value: 100 } }
                stopping { max_tokens: 1 min_tokens: 1 stop: "x" stop_token_ids: 1
                           ignore_eos: true include_stop: true time_limit_ms: 3600000 }
                response { logprobs: 20 prompt_logprobs: 0 token_ids: true
                           skip_special_tokens: false no_text: true }
                cache { salt: "s" bypass: true } priority: 0)")),
              IsOk());
  EXPECT_THAT(CheckRequest(Parse(R"(chat { messages { role: "user" content: "?" }
                tools { name: "t" } tool_choice { mode: MODE_AUTO } })")),
              IsOk());
}

struct Case {
  const char* request;
  const char* field;
};

TEST(RequestCheck, NamesTheWrongField) {
  const Case cases[] = {
      {R"(request_id: "a\nb" text: "x")", "request_id"},
      {"", "input"},
      {R"(text: "")", "text"},
      {"token_ids {}", "token_ids.ids"},
      {"chat {}", "chat.messages"},
      {R"(chat { messages { role: "u" content: "?" } messages { content: "?" } })",
       "chat.messages[1].role"},
      {R"(chat { messages { role: "user" content: "?" } tools { } })", "chat.tools[0].name"},
      {R"(chat { messages { role: "u" content: "?" } tool_choice { mode: MODE_NONE name: "t" } })",
       "chat.tool_choice"},
      {R"(text: "x" truncate_prompt_tokens: 0)", "truncate_prompt_tokens"},
      {R"(text: "x" response { no_text: true })", "response.no_text"},
      {R"(text: "x" guided { choice { } })", "guided.choice"},
      {R"(text: "x" guided { regex: "" })", "guided.regex"},
      {R"(text: "x" guided { json_object: false })", "guided.json_object"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.request);
    const absl::Status status = CheckRequest(Parse(one.request));
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(one.field)));
    EXPECT_THAT(WrongFields(status), ElementsAre(one.field));
  }
}

TEST(RequestCheck, NamesEachMessageThatSaysNothing) {
  const absl::Status status = CheckRequest(Parse(R"(chat {
      messages { role: "system" }
      messages { role: "user" content: "6 x 7?" }
      messages { role: "assistant" tool_calls { name: "times" } }
      messages { role: "tool" tool_call_id: "1" }
      messages { role: "assistant" reasoning: "what was it?" }
      messages { role: "user" content: "" name: "Ann" } })"));
  EXPECT_THAT(WrongFields(status),
              ElementsAre("chat.messages[0].content", "chat.messages[5].content"));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("is empty")));
}

TEST(RequestCheck, RefusesWhatAWorkerWouldRefuse) {
  for (const WrongRequest& one : kWrongRequests) {
    SCOPED_TRACE(one.text);
    const absl::Status status = CheckRequest(Parse(absl::StrCat(R"(text: "x" )", one.text)));
    EXPECT_THAT(WrongFields(status), ElementsAre(one.field));
  }
}

TEST(RequestCheck, AFloodOfEntriesIsOneWrongField) {
  const absl::Status status = CheckRequest(Parse(absl::StrCat(R"(text: "x" )", FloodOfBiases())));
  EXPECT_THAT(WrongFields(status), ElementsAre("sampling.logit_bias"));
}

TEST(RequestCheck, NamesEveryWrongFieldAtOnce) {
  const absl::Status status = CheckRequest(
      Parse(R"(text: "" sampling { temperature: -1 top_p: 2 } stopping { max_tokens: 0 })"));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("3 more")));
  EXPECT_THAT(WrongFields(status),
              ElementsAre("text", "sampling.temperature", "sampling.top_p", "stopping.max_tokens"));
}

TEST(RequestCheck, ManyWrongFieldsStillFitIntoAnError) {
  iv1::GenerateRequest request = Parse(R"(text: "x")");
  for (int i = 0; i < 1000; ++i) (*request.mutable_sampling()->mutable_logit_bias())[i] = 1000;
  const absl::Status status = FromGrpcStatus(ToGrpcStatus(CheckRequest(request)));
  EXPECT_EQ(WrongFields(status).size(), 16u);
}

TEST(RequestCheck, RefusesWhatIsNotDoneYetByItsName) {
  const Case cases[] = {
      {R"(text: "x" end_user_id: "u")", "end_user_id"},
      {R"(text: "x" lora_name: "l")", "lora_name"},
      {R"(chat { messages { role: "u" content: "?" } tool_choice { mode: MODE_REQUIRED } })",
       "chat.tool_choice.mode"},
      {R"(chat { messages { role: "u" content: "?" } tool_choice { name: "t" } })",
       "chat.tool_choice.name"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.request);
    EXPECT_THAT(CheckRequest(Parse(one.request)),
                StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(one.field)));
  }
}

TEST(RequestCheck, AChatToTokeniseIsHeldToTheSame) {
  const auto check = [](const std::string& text) {
    iv1::TokenizeRequest request;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
    return CheckTokenize(request);
  };
  EXPECT_THAT(check(R"(text: "" add_special: false)"), IsOk());
  EXPECT_THAT(check(R"(chat { messages { role: "u" content: "?" } tools { name: "t" } })"), IsOk());
  EXPECT_THAT(WrongFields(check("chat {}")), ElementsAre("chat.messages"));
  EXPECT_THAT(WrongFields(check(R"(chat { messages { role: "u" content: "?" } }
                                   add_special: true)")),
              ElementsAre("add_special"));
  EXPECT_THAT(check(R"(chat { messages { role: "u" content: "?" }
                             tool_choice { mode: MODE_REQUIRED } })"),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("chat.tool_choice.mode")));
}

TEST(RequestCheck, AWrongValueComesBeforeAMissingFeature) {
  EXPECT_THAT(CheckRequest(Parse(R"(text: "x" sampling { n: 2 temperature: -1 })")),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(RequestCheck, TokenIdsOfSamplingHaveToBeInTheVocabulary) {
  EXPECT_THAT(WrongFields(CheckTokenIds(Parse(R"(text: "x" sampling { allowed_token_ids: [9, 10]
                           logit_bias { key: -1 value: 1 } logit_bias { key: 3 value: 1 } })"),
                                        10)),
              ElementsAre("sampling.allowed_token_ids[1]", "sampling.logit_bias[-1]"));
}

TEST(RequestCheck, StopTokenIdsHaveToBeInTheVocabulary) {
  const iv1::GenerateRequest request =
      Parse(R"(text: "x" stopping { stop_token_ids: 9 stop_token_ids: 10 stop_token_ids: -1 })");
  EXPECT_THAT(WrongFields(CheckTokenIds(request, 10)),
              ElementsAre("stopping.stop_token_ids[1]", "stopping.stop_token_ids[2]"));
  EXPECT_THAT(CheckTokenIds(Parse(R"(text: "x" stopping { stop_token_ids: 9 })"), 10), IsOk());
}

}  // namespace
}  // namespace tandem
