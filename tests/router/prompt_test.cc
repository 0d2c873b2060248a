#include "router/prompt/prompt.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "absl/strings/str_replace.h"
#include "router/prompt/chat_json.h"
#include "router/prompt/deltas.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;

using ::testing::AllOf;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

std::shared_ptr<const std::string> File(const std::string& text) {
  return std::make_shared<const std::string>(text);
}

ModelFiles ByteFiles() {
  return {{"tokenizer.json", File(ByteTokenizerJson())},
          {"chat_template.jinja", File(ByteChatTemplate())}};
}

std::shared_ptr<const TextModel> ByteModel() {
  auto model = LoadTextModel(ByteFiles(), kByteVocabulary);
  EXPECT_TRUE(model.ok()) << model.status();
  return *model;
}

iv1::GenerateRequest Parse(const std::string& text) {
  iv1::GenerateRequest request;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
  return request;
}

constexpr PromptLimits kLimits = {.max_prompt_bytes = 1000,
                                  .max_context = 100,
                                  .vocabulary = kByteVocabulary,
                                  .default_max_tokens = 50};

absl::StatusOr<Prompt> Make(const iv1::GenerateRequest& request, PromptLimits limits = kLimits) {
  return MakePrompt(*ByteModel(), request, limits, absl::UnixEpoch());
}

TEST(Prompt, MaxTokensIsAsAskedOrTheDefaultAndFitsTheContext) {
  EXPECT_EQ(Make(Parse(R"(text: "abc" stopping { max_tokens: 7 })"))->max_tokens, 7u);
  EXPECT_EQ(Make(Parse(R"(text: "abc")"))->max_tokens, 50u);
  EXPECT_EQ(Make(Parse(R"(text: "abc" stopping { max_tokens: 1000 })"))->max_tokens, 97u);
  PromptLimits open = kLimits;
  open.default_max_tokens = 0;
  EXPECT_EQ(Make(Parse(R"(text: "abc")"), open)->max_tokens, 97u);
}

TEST(Prompt, TheDefaultLeavesRoomForTheLeastTokens) {
  EXPECT_EQ(Make(Parse(R"(text: "abc" stopping { min_tokens: 60 })"))->max_tokens, 60u);
  EXPECT_EQ(Make(Parse(R"(text: "abc" stopping { min_tokens: 40 })"))->max_tokens, 50u);
  EXPECT_EQ(Make(Parse(R"(text: "abc" stopping { min_tokens: 1000 })"))->max_tokens, 97u);
}

TEST(Prompt, TheDefaultFitsTheLargestWorkerAndWhatWasAskedForStands) {
  PromptLimits limits = kLimits;
  limits.worker_tokens = 32;
  EXPECT_EQ(Make(Parse(R"(text: "abc")"), limits)->max_tokens, 29u);
  limits.default_max_tokens = 0;
  EXPECT_EQ(Make(Parse(R"(text: "abc")"), limits)->max_tokens, 29u);
  EXPECT_EQ(Make(Parse(R"(text: "abc" stopping { max_tokens: 40 })"), limits)->max_tokens, 40u);
}

TEST(Prompt, TheContextHasToHoldThePromptAndOneToken) {
  iv1::GenerateRequest request;
  request.set_text(std::string(99, 'a'));
  EXPECT_EQ(Make(request)->max_tokens, 1u);
  request.set_text(std::string(100, 'a'));
  EXPECT_THAT(Make(request), StatusIs(absl::StatusCode::kInvalidArgument,
                                      AllOf(HasSubstr("text: "), HasSubstr("100 tokens"))));
  request.set_truncate_prompt_tokens(99);
  EXPECT_EQ(Make(request)->ids.size(), 99u);
}

TEST(Prompt, TokenIdsAreTakenAsTheyAreIfTheyAreInTheVocabulary) {
  EXPECT_THAT(Make(Parse("token_ids { ids: 5 ids: 263 }"))->ids, ElementsAreArray({5, 263}));
  EXPECT_THAT(Make(Parse("token_ids { ids: -1 }")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token_ids.ids[0]")));
}

TEST(Prompt, SpecialTokensInTextAreSpeltOut) {
  EXPECT_THAT(Make(Parse(R"(text: "<|im_end|>")"))->ids, ElementsAreArray(Bytes("<|im_end|>")));
}

TEST(Prompt, ChatNeedsATemplate) {
  ModelFiles files = ByteFiles();
  files.erase("chat_template.jinja");
  const auto model = LoadTextModel(files, kByteVocabulary);
  ASSERT_THAT(model, IsOk());
  EXPECT_THAT(MakePrompt(**model, Parse(R"(chat { messages { role: "user" } })"), kLimits,
                         absl::UnixEpoch()),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no chat template")));
}

TEST(Prompt, ARenderedPromptHasALimitToo) {
  iv1::GenerateRequest request = Parse(R"(chat { messages { role: "user" } })");
  request.mutable_chat()->mutable_messages(0)->set_content(std::string(990, 'a'));
  EXPECT_THAT(Make(request),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 1000")));
}

TEST(Prompt, AnErrorOfTheTemplateSaysSoOnce) {
  ModelFiles files = ByteFiles();
  files["chat_template.jinja"] = File("{{ raise_exception('roles must alternate') }}");
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTextModel(files, kByteVocabulary));
  EXPECT_THAT(
      MakePrompt(*model, Parse(R"(chat { messages { role: "user" content: "?" } })"), kLimits,
                 absl::UnixEpoch()),
      StatusIs(absl::StatusCode::kInvalidArgument, "chat: chat template: roles must alternate"));
}

TEST(Prompt, AllThatAChatHoldsCountsTowardsItsLimit) {
  const std::string large(1000, 'a');
  for (const std::string part :
       {R"(messages { role: "user" reasoning: "$" })",
        R"(messages { role: "user" tool_calls { name: "f" arguments: "$" } })",
        R"(messages { role: "user" } tools { name: "f" description: "$" })",
        R"(messages { role: "user" } template_variables { fields { key: "$" value {} } })"}) {
    SCOPED_TRACE(part);
    EXPECT_THAT(Make(Parse("chat {" + absl::StrReplaceAll(part, {{"$", large}}) + "}")),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("chat: the prompt has")));
  }
}

TEST(Prompt, SamplingTakesTheRequestThenTheModelThenTheDefault) {
  iv1::SamplingParams asked;
  asked.set_temperature(0);
  const GenerationDefaults defaults = {
      .temperature = 0.6f, .top_p = 0.9f, .repetition_penalty = 1.1f};
  const iv1::SamplingParams got = ResolveSampling(asked, defaults, 17);
  EXPECT_EQ(got.temperature(), 0.0f);
  EXPECT_EQ(got.top_p(), 0.9f);
  EXPECT_EQ(got.top_k(), 0u);
  EXPECT_TRUE(got.has_min_p());
  EXPECT_EQ(got.seed(), 17u);
  EXPECT_EQ(got.repetition_penalty(), 1.1f);
  asked.set_repetition_penalty(1.0f);
  EXPECT_EQ(ResolveSampling(asked, defaults, 17).repetition_penalty(), 1.0f);
  EXPECT_EQ(ResolveSampling({}, {}, 17).repetition_penalty(), 1.0f);
}

TEST(TextModel, ReadsGenerationDefaults) {
  ModelFiles files = ByteFiles();
  files["generation_config.json"] =
      File(R"({"temperature": 0.6, "top_k": 20, "top_p": null, "repetition_penalty": 1.1})");
  const auto model = LoadTextModel(files, kByteVocabulary);
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ((*model)->defaults.temperature, 0.6f);
  EXPECT_EQ((*model)->defaults.top_k, 20u);
  EXPECT_EQ((*model)->defaults.top_p, std::nullopt);
  EXPECT_EQ((*model)->defaults.repetition_penalty, 1.1f);
}

TEST(TextModel, NamesTheFileThatIsWrong) {
  struct Case {
    const char* file;
    const char* text;
  };
  const Case cases[] = {{"tokenizer.json", "{}"},
                        {"chat_template.jinja", "{% if %}"},
                        {"generation_config.json", R"({"temperature": "hot"})"},
                        {"generation_config.json", "[]"},
                        {"generation_config.json", R"({"repetition_penalty": 11})"},
                        {"special_tokens.json", R"({"bos_token": 5})"}};
  for (const Case& one : cases) {
    SCOPED_TRACE(one.text);
    ModelFiles files = ByteFiles();
    files[one.file] = File(one.text);
    EXPECT_THAT(LoadTextModel(files, kByteVocabulary),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(one.file)));
  }
  EXPECT_THAT(LoadTextModel({}, 10),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tokenizer.json")));
}

TEST(TextModel, ATokenizerWithMoreIdsThanTheModelIsRefused) {
  EXPECT_THAT(LoadTextModel(ByteFiles(), 257),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("257"), HasSubstr("vocabulary"))));
}

TEST(ChatJson, FollowsTheShapesOfHuggingFaceTemplates) {
  const ChatRequest request = *ToChatRequest(Parse(R"(chat {
        messages { role: "assistant" content: "c" reasoning: "r"
                   tool_calls { id: "1" name: "f" arguments: "{\"b\": 1, \"a\": 2}" }
                   tool_calls { name: "g" arguments: "not json" } }
        messages { role: "tool" content: "9" tool_call_id: "1" name: "f" }
        tools { name: "f" description: "d" parameters { fields { key: "type"
                value { string_value: "object" } } } }
        template_variables { fields { key: "n" value { number_value: 3 } }
                             fields { key: "b" value { bool_value: false } } }
        add_generation_prompt: false })")
                                                 .chat());
  EXPECT_EQ(request.messages_json,
            R"([{"role":"assistant","content":"c","reasoning_content":"r","tool_calls":[)"
            R"({"type":"function","function":{"name":"f","arguments":{"b":1,"a":2}},"id":"1"},)"
            R"({"type":"function","function":{"name":"g","arguments":"not json"}}]},)"
            R"({"role":"tool","content":"9","tool_call_id":"1","name":"f"}])");
  EXPECT_EQ(request.tools_json, R"([{"type":"function","function":{"name":"f","description":"d",)"
                                R"("parameters":{"type":"object"}}}])");
  EXPECT_EQ(request.variables_json, R"({"b":false,"n":3})");
  EXPECT_FALSE(request.add_generation_prompt);
}

TEST(ChatJson, ToolsAreHiddenWhereTheModelMayNotCallThem) {
  EXPECT_EQ(
      ToChatRequest(Parse(R"(chat { tools { name: "f" } tool_choice { mode: MODE_NONE } })").chat())
          ->tools_json,
      "null");
}

iv1::ChatInput WithArguments(const std::string& arguments) {
  iv1::ChatInput chat;
  chat.add_messages()->add_tool_calls()->set_arguments("{}");
  chat.mutable_messages(0)->add_tool_calls()->set_arguments(arguments);
  return chat;
}

std::string Nested(size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(ChatJson, ArgumentsMayNestTo64) {
  EXPECT_THAT(ToChatRequest(WithArguments(Nested(64))), IsOk());
  EXPECT_THAT(ToChatRequest(WithArguments(R"("\"[)" + Nested(100) + '"')), IsOk());  // a string
  for (const std::string& deep : {Nested(65), Nested(1 << 20), R"({"a\"]": )" + Nested(64) + "}"}) {
    EXPECT_THAT(ToChatRequest(WithArguments(deep)),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("chat.messages[0].tool_calls[1].arguments"),
                               HasSubstr("at most 64"))));
  }
}

// As deep as protobuf's parser lets it be.
TEST(ChatJson, TheDeepestVariablesThatCanArriveAreWritten) {
  iv1::ChatInput chat;
  auto* fields = chat.mutable_template_variables();
  for (int i = 0; i < 31; ++i) {
    fields = (*fields->mutable_fields())["a"].mutable_struct_value();
  }
  iv1::ChatInput arrived;
  ASSERT_TRUE(arrived.ParseFromString(chat.SerializeAsString()));
  EXPECT_THAT(ToChatRequest(arrived)->variables_json, HasSubstr(R"({"a":{"a":{)"));
}

// The text of all pieces, with the index of the token at which the output ended, or -1.
std::pair<std::string, int> Detokenise(absl::string_view text, Deltas::Options options) {
  absl::StatusOr<Deltas> deltas = Deltas::Create(*ByteModel(), std::move(options));
  EXPECT_TRUE(deltas.ok()) << deltas.status();
  std::string out;
  const std::vector<int32_t> ids = Bytes(text);
  for (size_t i = 0; i < ids.size(); ++i) {
    out += *deltas->Push(ids[i]);
    if (deltas->matched()) return {out, static_cast<int>(i)};
  }
  out += *deltas->Finish();
  return {out, -1};
}

TEST(Deltas, HoldBackCodePointsUntilTheyAreWhole) {
  absl::StatusOr<Deltas> deltas = Deltas::Create(*ByteModel(), {});
  ASSERT_THAT(deltas, IsOk());
  EXPECT_EQ(*deltas->Push(0xC3), "");
  EXPECT_EQ(*deltas->Push(0xA4), "\xC3\xA4");
  EXPECT_EQ(*deltas->Push(0xC3), "");
  EXPECT_EQ(*deltas->Finish(), "\xEF\xBF\xBD");
}

TEST(Deltas, EndAtAStopStringThatSpansTokens) {
  EXPECT_EQ(Detokenise("abSTOPcd", {.stops = {"STOP"}}), std::make_pair(std::string("ab"), 5));
  EXPECT_EQ(Detokenise("abSTOPcd", {.stops = {"STOP"}, .include_stop = true}),
            std::make_pair(std::string("abSTOP"), 5));
  EXPECT_EQ(Detokenise("abSTO", {.stops = {"STOP"}}), std::make_pair(std::string("abSTO"), -1));
}

TEST(Deltas, LookForNoStopStringInTheLeastTokens) {
  EXPECT_EQ(Detokenise("aSTOPbSTOPc", {.stops = {"STOP"}, .min_tokens = 5}),
            std::make_pair(std::string("aSTOPb"), 9));
  EXPECT_EQ(Detokenise("STOPc", {.stops = {"STOP"}, .min_tokens = 2}),
            std::make_pair(std::string("STOPc"), -1))
      << "a stop string begins behind them";
  EXPECT_EQ(Detokenise("STOP", {.stops = {"STOP"}, .min_tokens = 4}),
            std::make_pair(std::string("STOP"), -1));
}

TEST(Deltas, FindStopStringsAlsoWhereNoTextIsWanted) {
  EXPECT_EQ(Detokenise("abSTOPcd", {.stops = {"STOP"}, .no_text = true}),
            std::make_pair(std::string(), 5));
}

TEST(Deltas, SpecialTokensAreLeftOutUnlessAskedFor) {
  for (const bool skip : {true, false}) {
    absl::StatusOr<Deltas> deltas = Deltas::Create(*ByteModel(), {.skip_special = skip});
    ASSERT_THAT(deltas, IsOk());
    EXPECT_EQ(*deltas->Push(kImEnd), skip ? "" : "<|im_end|>");
  }
}

}  // namespace
}  // namespace tandem
