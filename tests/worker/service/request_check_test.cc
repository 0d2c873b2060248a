#include "worker/service/request_check.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"
#include "tests/support/status_matchers.h"
#include "tests/support/wrong_requests.h"

namespace tandem {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

RequestLimits Limits() {
  return {.max_context = 64,
          .vocabulary = 100,
          .eos_ids = {2, 7},
          .roles = {Role::kUnified, Role::kPrefill}};
}

// A right request, with the fields of `more` set over it.
worker::v1::Submit Valid(const std::string& more = "") {
  worker::v1::Submit submit;
  using google::protobuf::TextFormat;
  EXPECT_TRUE(TextFormat::ParseFromString(
      R"(handle: 5 request_id: "r" role: ROLE_UNIFIED prompt_ids: [1, 2, 3])", &submit));
  EXPECT_TRUE(TextFormat::MergeFromString(more, &submit)) << "not a Submit: " << more;
  return submit;
}

absl::Status Check(const std::string& more) {
  return CheckSubmit(Valid(more), Limits(), kNow).status();
}

TEST(RequestCheck, WhatIsAbsentTakesItsDefault) {
  ASSERT_OK_AND_ASSIGN(const EngineRequest request, CheckSubmit(Valid(), Limits(), kNow));
  EXPECT_EQ(request.handle, 5u);
  EXPECT_EQ(request.sampling.temperature, 1.0f);
  EXPECT_EQ(request.sampling.top_p, 1.0f);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.0f);
  EXPECT_EQ(request.time_limit, absl::InfiniteDuration());
  EXPECT_EQ(request.max_tokens, 61u) << "what is left of the context";
  EXPECT_THAT(request.stop_ids, ElementsAre(2, 7));
  EXPECT_FALSE(request.logprobs.has_value());
  EXPECT_EQ(request.deadline, absl::InfiniteFuture());
}

TEST(RequestCheck, EveryHonouredFieldReachesTheEngine) {
  ASSERT_OK_AND_ASSIGN(const EngineRequest request,
                       CheckSubmit(Valid(R"(attempt: 3 peer: "d:1" budget_ms: 1500
        sampling { temperature: 0 top_p: 0.5 top_k: 9 min_p: 0.25 seed: 77 presence_penalty: -2
                   frequency_penalty: 2 repetition_penalty: 10 allowed_token_ids: [9, 3, 9]
                   logit_bias { key: 4 value: -100 } }
        stopping { max_tokens: 8 min_tokens: 8 stop_token_ids: [50, 7] ignore_eos: true stop: "x"
                   time_limit_ms: 3600000 }
        cache { salt: "s" bypass: true }
        response { logprobs: 0 prompt_logprobs: 20 token_ids: true no_text: true })"),
                                   Limits(), kNow));
  EXPECT_EQ(request.attempt, 3u);
  EXPECT_EQ(request.peer, "d:1");
  EXPECT_EQ(request.deadline, kNow + absl::Milliseconds(1500));
  EXPECT_EQ(request.sampling.temperature, 0.0f);
  EXPECT_EQ(request.sampling.top_p, 0.5f);
  EXPECT_EQ(request.sampling.top_k, 9u);
  EXPECT_EQ(request.sampling.min_p, 0.25f);
  EXPECT_EQ(request.sampling.seed, 77u);
  EXPECT_EQ(request.sampling.presence_penalty, -2.0f);
  EXPECT_EQ(request.sampling.frequency_penalty, 2.0f);
  EXPECT_EQ(request.sampling.repetition_penalty, 10.0f);
  EXPECT_THAT(request.sampling.allowed_ids, ElementsAre(3, 9)) << "ascending, each once";
  EXPECT_THAT(request.sampling.logit_bias, ElementsAre(Pair(4, -100.0f)));
  EXPECT_EQ(request.cache_salt, "s");
  EXPECT_TRUE(request.cache_bypass);
  EXPECT_EQ(request.min_tokens, 8u);
  EXPECT_EQ(request.time_limit, absl::Hours(1));
  EXPECT_EQ(request.max_tokens, 8u);
  EXPECT_THAT(request.stop_ids, ElementsAre(7, 50)) << "without the model's own";
  EXPECT_EQ(request.logprobs, 0u);
  EXPECT_EQ(request.prompt_logprobs, 20u);
}

TEST(RequestCheck, AllWrongFieldsAreNamedAtOnce) {
  const absl::Status status = Check(R"(
      sampling { temperature: -1 top_p: 0 min_p: nan n: 9 frequency_penalty: 3 }
      response { logprobs: 21 } priority: 101)");
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                               HasSubstr("sampling.temperature: it is -1, want 0 to 100")));
  const auto details = DetailOf<google::rpc::BadRequest>(status);
  ASSERT_TRUE(details.has_value());
  std::vector<std::string> fields;
  for (const auto& violation : details->field_violations()) fields.push_back(violation.field());
  EXPECT_THAT(fields, ElementsAre("sampling.temperature", "sampling.top_p", "sampling.min_p",
                                  "sampling.frequency_penalty", "sampling.n", "response.logprobs",
                                  "priority"));
}

TEST(RequestCheck, RefusesWhatTheRouterWouldRefuse) {
  for (const WrongRequest& one : kWrongRequests) {
    SCOPED_TRACE(one.text);
    const auto details = DetailOf<google::rpc::BadRequest>(Check(one.text));
    ASSERT_TRUE(details.has_value());
    ASSERT_EQ(details->field_violations_size(), 1);
    EXPECT_EQ(details->field_violations(0).field(), one.field);
  }
}

TEST(RequestCheck, AFloodOfEntriesIsOneWrongField) {
  const auto details = DetailOf<google::rpc::BadRequest>(Check(FloodOfBiases()));
  ASSERT_TRUE(details.has_value());
  ASSERT_EQ(details->field_violations_size(), 1);
  EXPECT_EQ(details->field_violations(0).field(), "sampling.logit_bias");
}

TEST(RequestCheck, EachRangeHasBothEnds) {
  for (const std::string good :
       {"sampling { temperature: 100 }", "sampling { top_p: 1 }", "sampling { min_p: 1 }",
        "stopping { max_tokens: 61 }", "stopping { stop_token_ids: 99 }",
        "response { logprobs: 20 }", "role: ROLE_PREFILL peer: \"d:1\"",
        "sampling { repetition_penalty: 1 n: 1 }"}) {
    EXPECT_THAT(Check(good), IsOk()) << good;
  }
  const struct {
    std::string field, text;
  } bad[] = {
      {"request_id", "request_id: \"\""},
      {"role", "role: ROLE_UNSPECIFIED"},
      {"peer", "role: ROLE_PREFILL"},
      {"prompt_ids[3]", "prompt_ids: 100"},
      {"prompt_ids[3]", "prompt_ids: -1"},
      {"stopping.max_tokens", "stopping { max_tokens: 62 }"},
      {"stopping.stop_token_ids[1]", "stopping { stop_token_ids: [1, 100] }"},
      {"sampling.allowed_token_ids[0]", "sampling { allowed_token_ids: 100 }"},
      {"sampling.logit_bias[100]", "sampling { logit_bias { key: 100 value: 1 } }"},
      {"sampling.logit_bias[-1]", "sampling { logit_bias { key: -1 value: 1 } }"},
      {"sampling.allowed_token_ids",
       "sampling { allowed_token_ids: [2, 7] } stopping { min_tokens: 1 }"},
  };
  for (const auto& one : bad) {
    EXPECT_THAT(Check(one.text), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr(absl::StrCat(one.field, ": "))))
        << one.text;
  }
}

TEST(RequestCheck, AGrammarReachesTheEngineAsItWasWritten) {
  using Kind = GrammarSource::Kind;
  const struct {
    std::string text;
    GrammarSource source;
  } cases[] = {
      {R"(guided { json_schema: "{}" })", {Kind::kJsonSchema, "{}", {}}},
      {R"(guided { json_object: true })", {Kind::kJsonSchema, R"({"type": "object"})", {}}},
      {R"(guided { regex: "a+" })", {Kind::kRegex, "a+", {}}},
      {R"(guided { ebnf: "start: A" })", {Kind::kLark, "start: A", {}}},
      {R"(guided { choice { values: ["a", "b"] } })", {Kind::kChoice, "", {"a", "b"}}},
  };
  for (const auto& one : cases) {
    ASSERT_OK_AND_ASSIGN(const EngineRequest request, CheckSubmit(Valid(one.text), Limits(), kNow));
    EXPECT_EQ(request.guided, one.source) << one.text;
  }
  ASSERT_OK_AND_ASSIGN(const EngineRequest none, CheckSubmit(Valid("guided {}"), Limits(), kNow));
  EXPECT_FALSE(none.guided.has_value());
}

TEST(RequestCheck, AGrammarHasALimit) {
  const auto text = [](size_t bytes) { return std::string(bytes, 'x'); };
  const std::pair<std::string, std::string> cases[] = {
      {"guided.json_schema", absl::StrCat("guided { json_schema: \"", text(65537), "\" }")},
      {"guided.regex", absl::StrCat("guided { regex: \"", text(16385), "\" }")},
      {"guided.ebnf", absl::StrCat("guided { ebnf: \"", text(65537), "\" }")},
      {"guided.regex", "guided { regex: \"\" }"},
      {"guided.choice", "guided { choice {} }"},
      {"guided.choice", "guided { choice { values: \"\" } }"},
      {"guided.choice", absl::StrCat("guided { choice { values: \"", text(1025), "\" } }")},
      {"guided.json_object", "guided { json_object: false }"},
  };
  for (const auto& [field, fields] : cases) {
    EXPECT_THAT(Check(fields), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(field)));
  }
  worker::v1::Submit many = Valid();
  for (int i = 0; i < 257; ++i) many.mutable_guided()->mutable_choice()->add_values("a");
  EXPECT_THAT(CheckSubmit(many, Limits(), kNow).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 256")));
}

TEST(RequestCheck, TheContextLimitIsToldWithBothNumbers) {
  EXPECT_THAT(Check("stopping { max_tokens: 62 }"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("3 + 62 = 65 tokens, and the context has 64")));
  worker::v1::Submit longest = Valid();
  longest.clear_prompt_ids();
  EXPECT_THAT(CheckSubmit(longest, Limits(), kNow).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the prompt is empty")));
  for (int i = 0; i < 64; ++i) longest.add_prompt_ids(1);
  EXPECT_THAT(CheckSubmit(longest, Limits(), kNow).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("prompt has 64 tokens"), HasSubstr("context of 64"))));
}

TEST(RequestCheck, WhatIsNotHonouredIsRefusedByItsPath) {
  const struct {
    std::string field, text;
  } fields[] = {
      {"cache_root", "cache_root: \"r\""},
      {"lora_name", "lora_name: \"l\""},
      {"traceparent", "traceparent: \"00-1-2-01\""},
  };
  for (const auto& one : fields) {
    EXPECT_THAT(Check(one.text), StatusIs(absl::StatusCode::kUnimplemented,
                                          HasSubstr(absl::StrCat(one.field, ": "))))
        << one.text;
  }
  EXPECT_THAT(Check("lora_name: \"l\" sampling { top_p: 2 }"),
              StatusIs(absl::StatusCode::kInvalidArgument))
      << "what is wrong is told before what is missing";
}

TEST(RequestCheck, WhatIsResumedReachesTheEngineByOutput) {
  ASSERT_OK_AND_ASSIGN(const EngineRequest request,
                       CheckSubmit(Valid(R"(sampling { n: 4 } stopping { max_tokens: 3 }
          resume { output_index: 2 token_ids: [4, 5] } resume { output_index: 0 ended: true }
          resume { output_index: 3 token_ids: [1, 2, 7] ended: true })"),
                                   Limits(), kNow));
  ASSERT_EQ(request.resume.size(), 4u);
  EXPECT_TRUE(request.resume[0].ended);
  EXPECT_THAT(request.resume[1].tokens, IsEmpty());
  EXPECT_FALSE(request.resume[1].ended);
  EXPECT_THAT(request.resume[2].tokens, ElementsAre(4, 5));
  EXPECT_THAT(request.resume[3].tokens, ElementsAre(1, 2, 7)) << "it ended with a stop id";
  ASSERT_OK_AND_ASSIGN(const EngineRequest none,
                       CheckSubmit(Valid("resume { output_index: 0 }"), Limits(), kNow));
  EXPECT_THAT(none.resume, IsEmpty()) << "nothing was delivered";
}

TEST(RequestCheck, EachThingThatIsWrongWithWhatIsResumedIsNamed) {
  const absl::Status status = Check(R"(sampling { n: 3 } stopping { max_tokens: 4 }
      resume { output_index: 3 } resume { output_index: 1 token_ids: [1, 99, 100] }
      resume { output_index: 1 token_ids: [1, 1, 1, 1] })");
  const auto details = DetailOf<google::rpc::BadRequest>(status);
  ASSERT_TRUE(details.has_value()) << status;
  std::vector<std::string> fields;
  for (const auto& violation : details->field_violations()) fields.push_back(violation.field());
  EXPECT_THAT(fields, ElementsAre("resume[0].output_index", "resume[1].token_ids[2]",
                                  "resume[2].output_index", "resume[2].token_ids"));
  const struct {
    std::string text, says;
  } bad[] = {
      {"resume { token_ids: [1, -1] }", "resume[0].token_ids[1]: token id -1 is outside"},
      {"resume { token_ids: [1, 7] }", "resume[0].token_ids[1]: token id 7 is one that ends"},
      {"resume { token_ids: 5 } stopping { max_tokens: 1 }", "resume[0].token_ids: they are 1"},
      {"resume { ended: true }", "resume: all outputs have ended"},
      {"sampling { n: 2 } resume { ended: true } resume { output_index: 1 ended: true }",
       "resume: all outputs have ended"},
      {"resume {} resume {}", "resume: it has 2 entries, at most 1"},
      {"resume { output_index: 1 }", "resume[0].output_index: it is 1, want 0 to 0"},
      {"resume { token_ids: [1, 1] ended: true } stopping { max_tokens: 1 }",
       "resume[0].token_ids: they are 2"},
      {"sampling { n: 4000000000 } resume {}", "sampling.n: "},
  };
  for (const auto& one : bad) {
    EXPECT_THAT(Check(one.text), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(one.says)))
        << one.text;
  }
  EXPECT_THAT(Check("resume { token_ids: [1, 7] } stopping { ignore_eos: true }"), IsOk());
}

TEST(RequestCheck, PromptAndResumedTokensLeaveRoomInTheContext) {
  worker::v1::Submit submit = Valid("resume {}");
  for (int i = 0; i < 60; ++i) submit.mutable_resume(0)->add_token_ids(1);
  EXPECT_THAT(CheckSubmit(submit, Limits(), kNow).status(), IsOk()) << "3 + 60 of 64";
  submit.mutable_resume(0)->add_token_ids(1);
  EXPECT_THAT(CheckSubmit(submit, Limits(), kNow).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("resume[0].token_ids: they are 61, and max_tokens and the "
                                 "context allow 61 in all")));
}

TEST(RequestCheck, OverTwoWorkersOnlyOneOutputIsResumed) {
  const std::string prefill = "role: ROLE_PREFILL peer: \"d:1\" ";
  const std::string two = "sampling { n: 2 } ";
  EXPECT_THAT(Check(prefill + "resume { token_ids: 1 }"), IsOk());
  EXPECT_THAT(Check(prefill + two + "resume {} resume { output_index: 1 }"), IsOk());
  EXPECT_THAT(Check(two + "resume { token_ids: 1 }"), IsOk());
  for (const std::string one : {"resume { token_ids: 1 }", "resume { ended: true }"}) {
    EXPECT_THAT(Check(prefill + two + one),
                StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("resume: ")));
  }
}

TEST(RequestCheck, OneOutputUnlessMoreAreAskedFor) {
  for (const auto& [text, outputs] :
       {std::pair{"", 1u}, {"sampling { n: 1 }", 1u}, {"sampling { n: 8 }", 8u}}) {
    ASSERT_OK_AND_ASSIGN(const EngineRequest request, CheckSubmit(Valid(text), Limits(), kNow));
    EXPECT_EQ(request.outputs, outputs);
  }
}

TEST(RequestCheck, APriorityIsTakenOver) {
  ASSERT_OK_AND_ASSIGN(const EngineRequest low,
                       CheckSubmit(Valid("priority: -100"), Limits(), kNow));
  EXPECT_EQ(low.priority, -100);
  ASSERT_OK_AND_ASSIGN(const EngineRequest none, CheckSubmit(Valid(), Limits(), kNow));
  EXPECT_EQ(none.priority, 0);
}

TEST(RequestCheck, ARoleThatTheWorkerDoesNotPlayIsRefused) {
  EXPECT_THAT(Check("role: ROLE_DECODE"),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("ROLE_DECODE")));
}

TEST(RequestCheck, ABudgetBeyondAnyTimeIsNone) {
  ASSERT_OK_AND_ASSIGN(const EngineRequest request,
                       CheckSubmit(Valid("budget_ms: 18446744073709551615"), Limits(), kNow));
  EXPECT_EQ(request.deadline, absl::InfiniteFuture());
}

}  // namespace
}  // namespace tandem
