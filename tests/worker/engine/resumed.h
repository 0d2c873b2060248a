#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/worker/engine/harness.h"

// Undisturbed runs, cut, and what must be told of the rest.
namespace tandem {

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

}  // namespace tandem
