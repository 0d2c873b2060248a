#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

namespace tandem {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const absl::Time kTime = absl::FromUnixMillis(1'800'000'000'123);

std::string Text(absl::string_view message, LogFields fields) {
  return FormatLogLine({}, kTime, LogLevel::kInfo, message, fields);
}

TEST(Log, TextLineHasTimeLevelMessageAndFields) {
  const std::string peer = "127.0.0.1:9101";
  EXPECT_EQ(Text("linked", {{"peer", peer},
                            {"epoch", uint64_t{3}},
                            {"took", absl::Seconds(2)},
                            {"ok", true},
                            {"delta", -1}}),
            "2027-01-15T08:00:00.123Z info linked peer=127.0.0.1:9101 epoch=3 took=2.0 ok=true "
            "delta=-1");
}

TEST(Log, TextQuotesWhatCouldForgeALineOrAField) {
  EXPECT_THAT(Text("m", {{"v", "a\nb"}}), HasSubstr(R"(v="a\nb")"));
  EXPECT_THAT(Text("m", {{"v", "x y=z"}}), HasSubstr(R"(v="x y=z")"));
  EXPECT_THAT(Text("m", {{"v", ""}}), HasSubstr(R"(v="")"));
  EXPECT_THAT(Text("m", {{"v", "\x1b[31m"}}), Not(HasSubstr("\x1b")));
}

TEST(Log, JsonLineIsOneTypedObjectWhateverTheBytes) {
  LogOptions options{.format = LogFormat::kJson, .process = "router"};
  const std::string line = FormatLogLine(options, kTime, LogLevel::kError, "refused",
                                         {{"bytes", "\xff\"\n"},
                                          {"n", uint64_t{1} << 63},
                                          {"share", 0.5},
                                          {"status", absl::NotFoundError("no model")}});
  const auto json = nlohmann::json::parse(line, nullptr, false);
  ASSERT_FALSE(json.is_discarded()) << line;
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_EQ(json["level"], "error");
  EXPECT_EQ(json["process"], "router");
  EXPECT_EQ(json["message"], "refused");
  EXPECT_EQ(json["n"], uint64_t{1} << 63);
  EXPECT_EQ(json["share"], 0.5);
  EXPECT_EQ(json["status"], "NOT_FOUND: no model");
  EXPECT_EQ(json["bytes"], "\xEF\xBF\xBD\"\n");
}

TEST(Log, DropsWhatIsBelowTheLevel) {
  SetLogOptions({.level = LogLevel::kWarning});
  testing::internal::CaptureStderr();
  LogInfo("hidden");
  LogWarning("shown", {{"n", 1}});
  const std::string written = testing::internal::GetCapturedStderr();
  SetLogOptions({});
  EXPECT_THAT(written, HasSubstr("warning shown n=1\n"));
  EXPECT_THAT(written, Not(HasSubstr("hidden")));
}

TEST(Log, LinesOfSeveralThreadsAreNotMixed) {
  testing::internal::CaptureStderr();
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([] {
        for (int i = 0; i < 100; ++i) LogInfo("line", {{"pad", "aaaaaaaaaaaaaaaaaaaaaaaaa"}});
      });
    }
    SetLogOptions({.process = "p"});
  }
  SetLogOptions({});
  std::istringstream lines(testing::internal::GetCapturedStderr());
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    EXPECT_THAT(line, testing::EndsWith("line pad=aaaaaaaaaaaaaaaaaaaaaaaaa"));
  }
  EXPECT_EQ(count, 400);
}

}  // namespace
}  // namespace tandem
