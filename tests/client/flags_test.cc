#include "client/cli/flags.h"

#include <gmock/gmock.h>

#include "client/cli/endpoint_flags.h"
#include "tests/support/status_matchers.h"

namespace tandem::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Bound {
  std::string model;
  std::vector<std::string> sets;
  bool json = false;
  absl::optional<uint32_t> max_tokens;
  absl::optional<uint64_t> seed;
  absl::optional<float> temperature;
  std::vector<int32_t> ids;

  Flags Declared() {
    Flags flags;
    flags.Text("model", "NAME", "", &model);
    flags.Texts("set", "K=V", "", &sets);
    flags.Switch("json", "", &json);
    flags.Count("max-tokens", "N", "", &max_tokens);
    flags.Seed("seed", "S", "", &seed);
    flags.Real("temperature", "T", "", &temperature);
    flags.Ids("token-ids", "1,2", "", &ids);
    return flags;
  }
};

TEST(Flags, BothFormsAreReadAndTheRestIsKeptInOrder) {
  Bound bound;
  ASSERT_OK_AND_ASSIGN(const auto rest,
                       bound.Declared().Parse({"a", "--model=m=1", "--max-tokens", "7", "b",
                                               "--seed", "18446744073709551615", "--json",
                                               "--temperature", "-0.5", "--token-ids", "3,-4,5"}));
  EXPECT_THAT(rest, ElementsAre("a", "b"));
  EXPECT_EQ(bound.model, "m=1");
  EXPECT_EQ(bound.max_tokens, 7u);
  EXPECT_EQ(bound.seed, 18446744073709551615u);
  EXPECT_TRUE(bound.json);
  EXPECT_EQ(bound.temperature, -0.5f);
  EXPECT_THAT(bound.ids, ElementsAre(3, -4, 5));
}

TEST(Flags, WhatFollowsTwoDashesIsNoFlag) {
  Bound bound;
  ASSERT_OK_AND_ASSIGN(const auto rest, bound.Declared().Parse({"-", "--", "--json", "--"}));
  EXPECT_THAT(rest, ElementsAre("-", "--json", "--"));
  EXPECT_FALSE(bound.json);
}

TEST(Flags, AFlagThatMayRepeatKeepsEveryValue) {
  Bound bound;
  ASSERT_THAT(bound.Declared().Parse({"--set", "a=1", "--set=b=2"}), IsOk());
  EXPECT_THAT(bound.sets, ElementsAre("a=1", "b=2"));
}

TEST(Flags, MistakesNameTheFlagAndTheFix) {
  const struct {
    std::vector<std::string> args;
    const char* message;
  } kCases[] = {
      {{"--modle", "x"}, "unknown flag --modle; did you mean \"--model\"?"},
      {{"--hlep"}, "did you mean \"--help\"?"},
      {{"-m"}, "unknown flag -m"},
      {{"--model"}, "--model needs a value, NAME"},
      {{"--json=1"}, "--json takes no value"},
      {{"--max-tokens", "-1"}, "--max-tokens: \"-1\" is not a whole number in range"},
      {{"--max-tokens", "4294967296"}, "is not a whole number in range"},
      {{"--max-tokens", "1.5"}, "is not a whole number"},
      {{"--seed", ""}, "--seed: \"\" is not a whole number"},
      {{"--temperature", "warm"}, "--temperature: \"warm\" is not a number"},
      {{"--token-ids", "1,,2"}, "--token-ids: \"\" is not a whole number"},
  };
  for (const auto& c : kCases) {
    Bound bound;
    EXPECT_THAT(bound.Declared().Parse(c.args),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.message)));
  }
}

TEST(EndpointFlags, SayWhereTheRouterIsAndHowToKnowIt) {
  Client::Options connection;
  Flags flags;
  DeclareEndpoint(&flags, &connection);
  ASSERT_THAT(flags.Parse({"--endpoint=r:1", "--ca-file", "ca", "--cert-file", "cert", "--key-file",
                           "key", "--server-name", "router"}),
              IsOk());
  EXPECT_EQ(connection.endpoint, "r:1");
  EXPECT_EQ(connection.ca_file, "ca");
  EXPECT_EQ(connection.cert_file, "cert");
  EXPECT_EQ(connection.key_file, "key");
  EXPECT_EQ(connection.server_name, "router");
}

}  // namespace
}  // namespace tandem::cli
