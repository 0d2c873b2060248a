#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <ctime>

#include "tests/support/status_matchers.h"
#include "tests/text/tiny_tokenizer.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

absl::StatusOr<std::string> Render(absl::string_view source, ChatRequest request = {}) {
  if (request.messages_json.empty()) {
    request.messages_json = R"([{"role": "user", "content": "U1"},
      {"role": "assistant", "content": "A1"}, {"role": "user", "content": "U2"}])";
  }
  static const auto* const tokenizer =
      new std::shared_ptr<const Tokenizer>(MustLoad(ByteLevelJson()));
  ASSIGN_OR_RETURN(const auto chat_template, ChatTemplate::Compile(source));
  ASSIGN_OR_RETURN(RenderedPrompt prompt, chat_template->Render(request, **tokenizer));
  return prompt.text;
}

TEST(ChatTemplate, RendersChatMl) {
  EXPECT_THAT(Render("{%- for message in messages %}\n"
                     "    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] }}\n"
                     "    {{- '<|im_end|>\\n' }}\n"
                     "{%- endfor %}\n"
                     "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"),
              IsOkAndHolds("<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
                           "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n"));
}

TEST(ChatTemplate, TrimsBlocksAsTransformersDoes) {
  EXPECT_THAT(Render("a\n  {% if true %}\nb\n  {% endif %}\nc"), IsOkAndHolds("a\nb\nc"));
}

TEST(ChatTemplate, PassesSpecialTokensVariablesAndThePromptSwitch) {
  ChatRequest request;
  request.special_tokens = {{"bos_token", "<s>"}};
  request.variables_json = R"({"enable_thinking": false, "effort": "high"})";
  request.add_generation_prompt = false;
  EXPECT_THAT(
      Render("{{ bos_token }}|{{ enable_thinking }}|{{ effort }}|{{ add_generation_prompt }}"
             "|{{ missing is defined }}",
             request),
      IsOkAndHolds("<s>|False|high|False|False"));
}

TEST(ChatTemplate, AbsentToolsAndDocumentsAreNone) {
  EXPECT_THAT(Render("{{ tools is none }} {{ documents is none }} {{ tools is defined }} "
                     "{{ tools is iterable }}"),
              IsOkAndHolds("True True True False"));
}

TEST(ChatTemplate, WritesToolsAsPythonDoesAndKeepsTheOrderOfKeys) {
  ChatRequest request;
  request.tools_json = R"([{"z": 1.0, "a": [1e-7, 1e20, 0.5, true, null], "<é>": "\"x\"\n'&<>"}])";
  EXPECT_THAT(Render("{{ tools[0] | tojson }}", request),
              IsOkAndHolds(R"({"z": 1.0, "a": [1e-07, 1e+20, 0.5, true, null], )"
                           R"("<é>": "\"x\"\n'&<>"})"));
  EXPECT_THAT(Render("{{ tools[0].a | tojson(indent=2) }}", request),
              IsOkAndHolds("[\n  1e-07,\n  1e+20,\n  0.5,\n  true,\n  null\n]"));
  EXPECT_THAT(Render("{{ {'b': 'é', 'a': 1} | tojson(ensure_ascii=true, sort_keys=true, "
                     "separators=(',', ':')) }}"),
              IsOkAndHolds(R"({"a":1,"b":"\u00e9"})"));
}

TEST(ChatTemplate, KnowsPythonsStringMethods) {
  EXPECT_THAT(
      Render("{{ ' a,b,c '.strip().rsplit(',', 1) | tojson }} {{ 'xab'.removeprefix('x') }} "
             "{{ 'a=b'.partition('=') | join('|') }} {{ 'ab'.center(5, '*') }} "
             "{{ '-7'.zfill(4) }} {{ 'abc'.index('c') }} {{ 'aBc'.swapcase() }} "
             "{{ 'a b'.title() }} {{ 'ab'.startswith('a') }} {{ [3, 4].index(4) }}"),
      IsOkAndHolds("[\"a,b\", \"c\"] ab a|=|b **ab* -007 2 AbC A B True 1"));
}

TEST(ChatTemplate, KnowsJinjasFiltersAndTests) {
  EXPECT_THAT(Render("{{ 'a\nb\n' | indent(2) }}|{{ '' | default('x', true) }}|{{ 'q' | int }}|"
                     "{{ 'ab' is sequence }}|{{ 1.5 is float }}|{{ none is number }}|"
                     "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}"
                     "{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}"),
              IsOkAndHolds("a\n  b\n|x|0|True|True|False|013"));
}

TEST(ChatTemplate, GenerationBlocksAreTransparent) {
  EXPECT_THAT(Render("a {%- generation -%} b {%- endgeneration -%} c"), IsOkAndHolds("abc"));
}

TEST(ChatTemplate, ShowsTheDateItIsGiven) {
  ChatRequest request;
  request.now = absl::FromUnixSeconds(1735862399);  // 2025-01-02 23:59:59 UTC
  EXPECT_THAT(Render("{{ strftime_now('%d %b %Y %H:%M') }}", request),
              IsOkAndHolds("02 Jan 2025 23:59"));
  request.utc_offset = absl::Hours(1);
  EXPECT_THAT(Render("{{ strftime_now('%Y-%m-%d') }}", request), IsOkAndHolds("2025-01-03"));
}

TEST(ChatTemplate, GivesReasoningUnderBothNames) {
  ChatRequest request;
  request.messages_json = R"([{"reasoning_content": "R1"}, {"thinking": "R2"}])";
  EXPECT_THAT(Render("{% for m in messages %}{{ m.thinking }}{{ m.reasoning_content }}{% endfor %}",
                     request),
              IsOkAndHolds("R1R1R2R2"));
}

TEST(ChatTemplate, RaiseExceptionIsTheTemplatesWordOnTheRequest) {
  EXPECT_THAT(Render("{{ raise_exception('roles must alternate') }}"),
              StatusIs(kInvalid, "chat template: roles must alternate"));
}

TEST(ChatTemplate, RefusesBadSourceAndBadInputByName) {
  EXPECT_THAT(Render("{% for %}"), StatusIs(kInvalid, HasSubstr("syntax error")));
  EXPECT_THAT(Render("{{ x.y.z }}"), StatusIs(kInvalid, HasSubstr("undefined")));
  EXPECT_THAT(Render(std::string((1 << 20) + 1, 'a')), StatusIs(kInvalid, HasSubstr("1048576")));
  ChatRequest request;
  request.tools_json = "[1,";
  EXPECT_THAT(Render("x", request), StatusIs(kInvalid, HasSubstr("tools: ")));
  request = {.messages_json = "{}"};
  EXPECT_THAT(Render("x", request), StatusIs(kInvalid, HasSubstr("messages: ")));
  request = {.variables_json = R"({"messages": []})"};
  EXPECT_THAT(Render("x", request), StatusIs(kInvalid, HasSubstr("\"messages\" is reserved")));
  request = {.documents_json = std::string(1000, '[') + std::string(1000, ']')};
  EXPECT_THAT(Render("x", request), StatusIs(kInvalid, HasSubstr("documents: recursion limit")));
}

struct Hostile {
  const char* name;
  const char* source;
};

class HostileTemplate : public ::testing::TestWithParam<Hostile> {};

INSTANTIATE_TEST_SUITE_P(
    All, HostileTemplate,
    ::testing::Values(
        Hostile{"Loop",
                "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"},
        Hostile{"Output", "{% for a in range(9999) %}{{ 'x' * 10000 }}{% endfor %}"},
        Hostile{"Doubling",
                "{% set n = namespace(s='x') %}{% for i in range(60) %}"
                "{% set n.s = n.s ~ n.s %}{% endfor %}"},
        Hostile{"Repeat", "{% set s = 'x' * 10000000000 %}"},
        Hostile{"Json",
                "{% set n = namespace(s=[1]) %}{% for i in range(40) %}"
                "{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s | tojson }}"},
        Hostile{"Padding", "{{ 'x'.center(99999999999) }}{{ 'x'.ljust(-1) }}"},
        Hostile{"Recursion", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"},
        Hostile{"Include", "{% include 'chat_template' %}"},
        Hostile{"Extends", "{% extends 'chat_template' %}"}),
    [](const auto& info) { return info.param.name; });

TEST_P(HostileTemplate, EndsInAnErrorAndSoon) {
  const std::clock_t begin = std::clock();
  EXPECT_THAT(Render(GetParam().source), StatusIs(kInvalid, HasSubstr("chat template: ")));
  EXPECT_LT(std::clock() - begin, 8 * CLOCKS_PER_SEC) << "slow even for a sanitizer's build";
}

TEST(ChatTemplate, DeeplyNestedSourceIsRefused) {
  std::string source;
  for (int i = 0; i < 20000; ++i) source += "{% if true %}";
  EXPECT_THAT(Render(source), StatusIs(kInvalid));
  EXPECT_THAT(Render("{{ " + std::string(50000, '(') + " }}"), StatusIs(kInvalid));
}

TEST(ChatTemplate, ACallersTextIsNeverATemplate) {
  ChatRequest request;
  request.messages_json = R"([{"content": "{{ 7 * 7 }}{% raw %}"}])";
  EXPECT_THAT(Render("{{ messages[0].content }}", request), IsOkAndHolds("{{ 7 * 7 }}{% raw %}"));
}

}  // namespace
}  // namespace tandem
