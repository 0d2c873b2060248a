#include "client/cli/request_flags.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>

#include <filesystem>
#include <fstream>

#include "client/cli/guided_flags.h"
#include "tests/support/status_matchers.h"

namespace tandem::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Request = inference::v1::GenerateRequest;

absl::StatusOr<std::string> Asked(const std::vector<std::string>& args) {
  RequestFlags request;
  Flags flags;
  request.Declare(&flags);
  const auto rest = flags.Parse(args);
  if (!rest.ok()) return rest.status();
  return request.request().ShortDebugString();
}

TEST(RequestFlags, EachSetsItsFieldAndNothingElse) {
  const struct {
    std::vector<std::string> args;
    const char* request;
  } kCases[] = {
      {{}, ""},
      {{"--model", "m"}, "model: 'm'"},
      {{"--max-tokens", "7"}, "stopping { max_tokens: 7 }"},
      {{"--min-tokens", "7"}, "stopping { min_tokens: 7 }"},
      {{"--time-limit", "1500"}, "stopping { time_limit_ms: 1500 }"},
      {{"--stop", "a,b", "--stop", ""}, "stopping { stop: 'a,b' stop: '' }"},
      {{"--stop-ids", "1", "--stop-ids", "3,2"}, "stopping { stop_token_ids: [3, 2] }"},
      {{"--temperature", "0"}, "sampling { temperature: 0 }"},
      {{"--top-p", "0.5"}, "sampling { top_p: 0.5 }"},
      {{"--top-k", "0"}, "sampling { top_k: 0 }"},
      {{"--min-p", "0.25"}, "sampling { min_p: 0.25 }"},
      {{"--presence-penalty", "-2"}, "sampling { presence_penalty: -2 }"},
      {{"--frequency-penalty", "2"}, "sampling { frequency_penalty: 2 }"},
      {{"--repetition-penalty", "1.5"}, "sampling { repetition_penalty: 1.5 }"},
      {{"--logit-bias", "5=-100,7=0.5"},
       "sampling { logit_bias { key: 5 value: -100 } logit_bias { key: 7 value: 0.5 } }"},
      {{"--allowed-ids", "4,5"}, "sampling { allowed_token_ids: [4, 5] }"},
      {{"--n", "3"}, "sampling { n: 3 }"},
      {{"--seed", "0"}, "sampling { seed: 0 }"},
      {{"--cache-salt", "s"}, "cache { salt: 's' }"},
      {{"--cache-bypass"}, "cache { bypass: true }"},
  };
  for (const auto& c : kCases) {
    SCOPED_TRACE(c.request);
    Request want;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(c.request, &want));
    ASSERT_OK_AND_ASSIGN(const std::string got, Asked(c.args));
    EXPECT_EQ(got, want.ShortDebugString());
  }
}

TEST(RequestFlags, WhatIsNoValueIsNamed) {
  EXPECT_THAT(Asked({"--logit-bias", "5"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("--logit-bias"), HasSubstr("is not a number"))));
  EXPECT_THAT(Asked({"--logit-bias", "five=5"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"five\"")));
  EXPECT_THAT(Asked({"--top-k", "-1"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--top-k")));
}

absl::StatusOr<std::string> Guided(const std::vector<std::string>& args) {
  GuidedFlags guided;
  Flags flags;
  guided.Declare(&flags);
  const auto rest = flags.Parse(args);
  if (!rest.ok()) return rest.status();
  Request request;
  absl::Status status = guided.Set(&request);
  if (!status.ok()) return status;
  return request.ShortDebugString();
}

TEST(GuidedFlags, WhatIsGivenIsSentEvenIfItIsEmpty) {
  EXPECT_EQ(*Guided({}), "");
  EXPECT_EQ(*Guided({"--regex", "a+"}), "guided { regex: \"a+\" }");
  EXPECT_EQ(*Guided({"--regex", ""}), "guided { regex: \"\" }");
  EXPECT_EQ(*Guided({"--choice", "a,b"}), "guided { choice { values: \"a\" values: \"b\" } }");
  EXPECT_EQ(*Guided({"--choice="}), "guided { choice { values: \"\" } }");
  EXPECT_THAT(Guided({"--regex", "", "--choice", "a"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("exclude one another")));
}

TEST(GuidedFlags, AFileIsReadOrItsErrorNamesFlagAndFile) {
  const std::string folder = testing::TempDir();
  const std::string path = folder + "/guided_flags_test.txt";
  std::ofstream(path) << "{}";
  EXPECT_EQ(*Guided({"--json-schema", path}), "guided { json_schema: \"{}\" }");
  EXPECT_EQ(*Guided({"--ebnf", path}), "guided { ebnf: \"{}\" }");
  std::filesystem::remove(path);
  for (const std::string flag : {"--json-schema", "--ebnf"}) {
    for (const std::string& wrong : {folder, path, std::string()}) {
      const absl::Status status = Guided({flag, wrong}).status();
      EXPECT_FALSE(status.ok());
      EXPECT_THAT(status.message(), AllOf(HasSubstr(flag), HasSubstr("\"" + wrong + "\"")));
    }
  }
}

}  // namespace
}  // namespace tandem::cli
