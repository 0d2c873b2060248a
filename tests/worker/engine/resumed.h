#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/worker/engine/harness.h"
#include "tests/worker/engine/letters.h"

// Undisturbed runs, cut, and what must be told of the rest.
namespace tandem {

// A request of each kind of state that a draw depends on.
struct ResumedKind {
  std::string name;
  EngineRequest request;
};

inline std::vector<ResumedKind> ResumedKinds() {
  using Kind = GrammarSource::Kind;
  std::vector<ResumedKind> kinds;
  const auto add = [&kinds](std::string name, uint32_t prompt, uint32_t max_tokens) {
    kinds.push_back({std::move(name), ToyRequest(kinds.size() + 1, prompt, max_tokens)});
    kinds.back().request.logprobs = 3;
    return &kinds.back().request;
  };
  add("greedy", 37, 40)->sampling.temperature = 0;
  add("sampled", 16, 40)->sampling.top_k = 20;
  EngineRequest* one = add("penalties, min_tokens", 23, 40);
  one->sampling.presence_penalty = 1.5f;
  one->sampling.frequency_penalty = 0.75f;
  one->sampling.repetition_penalty = 1.25f;
  one->sampling.logit_bias = {{3, 4.0f}, {5, -100.0f}};
  one->stop_ids = {0, 7, 13, 21, 34};
  one->min_tokens = 20;
  one = add("a regex", 33, 60);
  one->guided = GrammarSource{Kind::kRegex, "([a-e]{1,6} [0-9]){3,4}", {}};
  one->stop_ids = {kEndId};
  one = add("JSON", 1, 200);
  one->guided = GrammarSource{Kind::kJsonSchema,
                              R"({"type":"object","properties":{"kind":
      {"enum":["cat","dog"]},"ages":{"type":"array","items":{"type":"integer","maximum":99,
      "minimum":0},"maxItems":3,"minItems":2}},"required":["kind","ages"],
      "additionalProperties":false,"x-guidance":{"whitespace_flexible":false}})",
                              {}};
  one->stop_ids = {kEndId};
  one = add("prompt's log-probabilities", 40, 20);
  one->prompt_logprobs = 2;
  one = add("four outputs", 21, 24);
  one->outputs = 4;
  one->stop_ids = {0, 7, 13};
  one->min_tokens = 3;
  one->sampling.frequency_penalty = 1.0f;
  one->prompt_logprobs = 1;
  one = add("four of a regex", 48, 40);
  one->outputs = 4;
  one->guided = GrammarSource{Kind::kRegex, "([a-e]{1,6} [0-9]){2,3}", {}};
  one->stop_ids = {kEndId};
  return kinds;
}

inline std::vector<int32_t> TokensOf(const Heard& whole, uint32_t output, size_t tokens) {
  const std::vector<int32_t>& all = whole.output(output).token_ids;
  return {all.begin(), all.begin() + std::min(tokens, all.size())};
}

// One that earlier attempts delivered so many tokens of, of each output.
inline EngineRequest Resumed(EngineRequest request, const Heard& whole,
                             const std::vector<size_t>& cut) {
  for (uint32_t i = 0; i < request.outputs; ++i) {
    const bool ended = cut[i] >= whole.output(i).token_ids.size();
    request.resume.push_back({TokensOf(whole, i, cut[i]), ended});
  }
  return request;
}

// At every position from none of it to all but the last token. Of several outputs also with a
// different one of each, where some have ended, and with one that nothing is known of.
inline std::vector<EngineRequest> EveryCut(const EngineRequest& request, const Heard& whole) {
  size_t longest = 0;
  for (uint32_t i = 0; i < request.outputs; ++i) {
    longest = std::max(longest, whole.output(i).token_ids.size());
  }
  std::vector<std::vector<size_t>> cuts;
  for (size_t at = 0; at < longest; ++at) {
    cuts.emplace_back(request.outputs, at);
    if (request.outputs == 1) continue;
    std::vector<size_t> uneven;
    for (uint32_t i = 0; i < request.outputs; ++i) uneven.push_back((at + 7 * i) % (longest + 1));
    cuts.push_back(uneven);
    std::reverse(uneven.begin(), uneven.end());
    cuts.push_back(uneven);
    cuts.emplace_back(request.outputs, at)[at % request.outputs] = 0;
    cuts.emplace_back(request.outputs, at)[at % request.outputs] = longest;
  }
  std::vector<EngineRequest> resumed;
  for (const std::vector<size_t>& cut : cuts) {
    EngineRequest one = Resumed(request, whole, cut);
    if (!RunningOutputs(one).empty()) resumed.push_back(std::move(one));
  }
  return resumed;
}

inline std::string CutOf(const EngineRequest& request) {
  std::string text = "cut at";
  for (const ResumedOutput& one : request.resume) {
    absl::StrAppend(&text, " ", one.tokens.size(), one.ended ? " (its end)" : "");
  }
  return text;
}

// What is told of a resumed output is the rest of the whole one.
inline void ExpectRestOf(const HeardOutput& whole, const HeardOutput& rest) {
  if (rest.ended_before) {
    EXPECT_THAT(rest.token_ids, testing::IsEmpty());
    EXPECT_FALSE(rest.finish.has_value());
    return;
  }
  EXPECT_EQ(rest.token_ids, absl::MakeConstSpan(whole.token_ids).subspan(rest.resumed));
  EXPECT_EQ(BitsOf(rest.logprobs),
            BitsOf({whole.logprobs.begin() + rest.resumed, whole.logprobs.end()}));
  EXPECT_EQ(rest.finish, whole.finish);
}

inline void ExpectRest(const Heard& whole, const Heard& rest) {
  ASSERT_TRUE(rest.over(Role::kUnified)) << rest.refusal << rest.error;
  for (uint32_t i = 0; i <= whole.others.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "output " << i);
    ExpectRestOf(whole.output(i), rest.output(i));
  }
  const bool told = rest.resumed == 0 && !rest.ended_before;
  EXPECT_EQ(BitsOf(rest.prompt_logprobs),
            told ? BitsOf(whole.prompt_logprobs) : std::vector<uint32_t>());
}

// The same of one output over two workers: the first of the rest by both, with log-probabilities
// by the prefill worker alone.
inline void ExpectRestOfSplit(const Heard& whole, const Heard& prefill, Heard decode) {
  ASSERT_TRUE(prefill.handoff.has_value()) << prefill.refusal << prefill.error;
  ASSERT_EQ(prefill.token_ids.size(), 1u);
  ASSERT_FALSE(decode.token_ids.empty()) << decode.refusal << decode.error;
  EXPECT_EQ(prefill.token_ids[0], decode.token_ids[0]);
  EXPECT_EQ(prefill.finish.has_value(), decode.token_ids.size() == 1);
  decode.logprobs.insert(decode.logprobs.begin(), prefill.logprobs[0]);
  decode.prompt_logprobs = prefill.prompt_logprobs;
  ExpectRest(whole, decode);
}

}  // namespace tandem
