#include "base/config.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "base/config_value.h"
#include "tandem/config/v1/router.pb.h"
#include "tandem/config/v1/worker.pb.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using config::v1::RouterConfig;
using config::v1::WorkerConfig;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <typename Config>
absl::StatusOr<Config> Read(absl::string_view yaml, std::vector<std::string> sets = {}) {
  Config config;
  RETURN_IF_ERROR(ReadConfig(yaml, "f.yaml", sets, &config));
  return config;
}
absl::StatusOr<WorkerConfig> Worker(absl::string_view yaml, std::vector<std::string> sets = {}) {
  if (sets.empty()) sets.push_back("model.path=/m");
  return Read<WorkerConfig>(yaml, std::move(sets));
}
absl::StatusOr<RouterConfig> Router(absl::string_view yaml, std::vector<std::string> sets = {}) {
  sets.push_back("workers=[\"127.0.0.1:9100\"]");
  return Read<RouterConfig>(yaml, std::move(sets));
}

TEST(Config, AnEmptyFileGivesTheDeclaredDefaults) {
  ASSERT_OK_AND_ASSIGN(const WorkerConfig worker, Worker(""));
  EXPECT_EQ(worker.role(), config::v1::ROLE_UNIFIED);
  EXPECT_EQ(worker.server().listen(), "127.0.0.1:9100");
  EXPECT_EQ(worker.kv().memory_bytes(), uint64_t{1} << 30);
  EXPECT_EQ(worker.engine().max_batch_tokens(), 512);
  EXPECT_EQ(ToDuration(worker.engine().max_step()), absl::Milliseconds(250));
  EXPECT_EQ(worker.observability().log_level(), config::v1::LOG_LEVEL_INFO);
  ASSERT_OK_AND_ASSIGN(const RouterConfig router, Router(""));
  EXPECT_EQ(router.server().listen(), "127.0.0.1:9000");  // the same message, another default
  EXPECT_EQ(router.limits().client_buffer_bytes(), 256 << 10);
  EXPECT_EQ(ToDuration(router.drain_timeout()), absl::Minutes(1));
}

TEST(Config, ReadsEveryKindOfValue) {
  ASSERT_OK_AND_ASSIGN(const RouterConfig router, Read<RouterConfig>(R"(
server: {listen: "[::1]:7000", insecure: true, tls: {cert_file: c.pem}}
workers: [a:1, "dns:///workers.ns.svc:9100"]
aliases:
  gpt-3.5: smol
  fast: smol
limits:
  max_request_bytes: 2MiB
  max_prompt_bytes: 4096
  slow_client_timeout: 1m30s
observability: {log_format: json}
heartbeat:
)"));
  EXPECT_EQ(router.server().listen(), "[::1]:7000");
  EXPECT_TRUE(router.server().insecure());
  EXPECT_EQ(router.server().tls().cert_file(), "c.pem");
  EXPECT_THAT(router.workers(), ElementsAre("a:1", "dns:///workers.ns.svc:9100"));
  EXPECT_EQ(router.aliases().size(), 2);
  EXPECT_EQ(router.aliases().at("gpt-3.5"), "smol");
  EXPECT_EQ(router.limits().max_request_bytes(), 2 << 20);
  EXPECT_EQ(router.limits().max_prompt_bytes(), 4096);
  EXPECT_EQ(ToDuration(router.limits().slow_client_timeout()), absl::Seconds(90));
  EXPECT_EQ(router.observability().log_format(), config::v1::LOG_FORMAT_JSON);
  EXPECT_EQ(router.heartbeat().missed(), 3);
}

struct Refusal {
  const char* yaml;
  const char* error;
};

TEST(Config, RefusesWhatIsWrongAndSaysWhere) {
  const Refusal kRefusals[] = {
      {"engine:\n  max_batch_tokns: 4\n",
       "f.yaml:2:3: unknown key \"max_batch_tokns\" in engine; did you mean \"max_batch_tokens\"?"},
      {"zebra: 1\n", "f.yaml:1:1: unknown key \"zebra\"; it can be role, backend, model"},
      {"role: decode\nrole: prefill\n", "f.yaml:2:1: key \"role\" appears twice"},
      {"engine: {threads: 1, threads: 1}", "key \"engine.threads\" appears twice"},
      {"role: prefil", "f.yaml:1:7: role: unknown value \"prefil\"; did you mean \"prefill\"?"},
      {"role: unspecified", "unknown value"},
      {"engine:\n  threads: many\n", "f.yaml:2:12: engine.threads: \"many\" is not a whole number"},
      {"engine: {threads: -1}", "\"-1\" is not a whole number"},
      {"engine: {threads: 1.5}", "\"1.5\" is not a whole number"},
      {"engine: {threads: 1025}", "1025 is above the maximum 1024"},
      {"engine: {max_queue: 0}", "0 is below the minimum 1"},
      {"engine: {max_step: 250}", "\"250\" is not a duration"},
      {"engine: {max_step: -5s}", "\"-5s\" is not a duration"},
      {"engine: {max_step: inf}", "\"inf\" is not a duration"},
      {"engine: {max_step: 1h}", "1h is above the maximum 10s"},
      {"kv: {memory_bytes: 64MB}", "\"64MB\" is not a size"},
      {"kv: {memory_bytes: 99999999TiB}", "\"99999999TiB\" is not a size"},
      {"kv: {memory_bytes: 1KiB}", "1KiB is below the minimum 1MiB"},
      {"server: {insecure: yes}", "\"yes\" is neither true nor false"},
      {"server: {listen: 9000}", "it has no port"},
      {"server: {listen: \"h:70000\"}", "number from 0 to 65535"},
      {"server: {listen: \":9000\"}", "0.0.0.0 stands for every address"},
      {"server: {listen: \"::1:9000\"}", "has to be in brackets"},
      {"server: 9000", "f.yaml:1:9: server: has to be a mapping"},
      {"role: [decode]", "role: has to be a single value"},
      {"role:", "role: has no value"},
      {"- role", "the document: has to be a mapping"},
      {"? [a]\n: b", "a key has to be a word"},
      {"role: decode\n---\nrole: prefill", "f.yaml:2:1: something follows the first document"},
      {",;", "something follows the first document"},
      {"role: [", "f.yaml:1:1: not valid YAML"},
      {"model: {name: \"a\\nb\"}", "model.name: the text has a control character"},
      {"model: {name: \"\xff\"}", "model.name: the text"},
      {"<<: {role: decode}", "unknown key \"<<\""},
      {"role: *nobody", "not valid YAML"},
  };
  for (const Refusal& refusal : kRefusals) {
    SCOPED_TRACE(refusal.yaml);
    EXPECT_THAT(Worker(refusal.yaml),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(refusal.error)));
  }
}

TEST(Config, SetOverridesTheFileInOrder) {
  ASSERT_OK_AND_ASSIGN(
      const WorkerConfig worker,
      Worker("engine: {threads: 3}\nmodel: {path: a}",
             {"engine.threads=4", "model.path=b=c", "engine.threads=5", "engine={max_queue: 9}"}));
  EXPECT_EQ(worker.engine().threads(), 5);
  EXPECT_EQ(worker.engine().max_queue(), 9);
  EXPECT_EQ(worker.model().path(), "b=c");
  ASSERT_OK_AND_ASSIGN(const RouterConfig router,
                       Read<RouterConfig>("workers: [a:1]\naliases: {x: y}",
                                          {"workers=[b:2, c:3]", "aliases.x=z", "aliases.a.b=c"}));
  EXPECT_THAT(router.workers(), ElementsAre("b:2", "c:3"));
  EXPECT_EQ(router.aliases().at("x"), "z");
  EXPECT_EQ(router.aliases().at("a.b"), "c");
}

TEST(Config, SetIsAsStrictAsTheFileAndNamesTheFlag) {
  const Refusal kRefusals[] = {
      {"engine.thread=1", "--set engine.thread: unknown key \"thread\" in engine; did you mean"},
      {"engine.threads=x", "--set engine.threads: \"x\" is not a whole number"},
      {"engine.threads.x=1", "--set engine.threads.x: engine.threads has no keys inside it"},
      {"engine.threads", "--set engine.threads: write --set path=value"},
      {"engine={max_queu: 1}", "--set engine: unknown key \"max_queu\" in engine"},
      {"engine={", "--set engine: not valid YAML"},
      {"=1", "write --set path=value"},
  };
  for (const Refusal& refusal : kRefusals) {
    SCOPED_TRACE(refusal.yaml);
    EXPECT_THAT(Worker("", {refusal.yaml}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(refusal.error)));
  }
}

TEST(Config, AKeyOfAMapIsATextLikeAnyOther) {
  const Refusal kRefusals[] = {
      {"workers: [a:1]\naliases: {\xf8: x}", "f.yaml:2:11: aliases: a key: the text is not UTF-8"},
      {"workers: [a:1]\naliases: {\"a\\x05\": x}", "a key: the text has a control character"},
  };
  for (const Refusal& refusal : kRefusals) {
    SCOPED_TRACE(refusal.yaml);
    EXPECT_THAT(Read<RouterConfig>(refusal.yaml),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(refusal.error)));
  }
  EXPECT_THAT(Read<RouterConfig>("workers: [a:1]", {"aliases.\x05=x"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--set aliases.\x05: a key: the text has a control character")));
}

TEST(Config, ARequiredValueHasToBeThere) {
  EXPECT_THAT(Read<WorkerConfig>("role: decode"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("f.yaml: model.path is required and has no value: A Hugging")));
  EXPECT_THAT(Read<RouterConfig>("workers: []"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("workers is required")));
}

TEST(Config, HostileFilesEndInAnErrorSoon) {
  EXPECT_THAT(Worker(std::string(300 << 10, '#')),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("larger than 256KiB")));
  EXPECT_THAT(Worker(std::string(100'000, '[')), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Worker(std::string(100'000, '{')), StatusIs(absl::StatusCode::kInvalidArgument));
  std::string aliases = "aliases: {";
  for (int i = 0; i <= 4096; ++i) absl::StrAppend(&aliases, "n", i, ": x, ");
  EXPECT_THAT(Router(aliases + "}"), StatusIs(absl::StatusCode::kInvalidArgument,
                                              HasSubstr("has 4097 entries, more than 4096")));
  std::string bomb = "server: {listen: &a [x, x]}\nworkers: &b0 [x, x]\n";
  for (int i = 0; i < 60; ++i) {  // 2^61 entries, if it were expanded
    absl::StrAppend(&bomb, "k", i, ": &b", i + 1, " [*b", i, ", *b", i, "]\n");
  }
  EXPECT_THAT(Router(bomb), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Router("aliases: &a {x: y}\nworkers: [*a]"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("workers[0]: has to be")));
}

TEST(Config, TheYamlItWritesReadsBackToTheSame) {
  ASSERT_OK_AND_ASSIGN(const RouterConfig router, Router(R"(
aliases: {"odd key: #": "va\"lue", b: "true"}
limits: {max_prompt_bytes: 1025, slow_client_timeout: 100ms}
)"));
  ASSERT_OK_AND_ASSIGN(const RouterConfig again, Read<RouterConfig>(ConfigYaml(router)));
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(router, again))
      << ConfigYaml(router) << again.DebugString();
}

TEST(Config, AFileThatIsNotThereIsNamed) {
  EXPECT_THAT(LoadConfig<RouterConfig>("/nonexistent/r.yaml", {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("/nonexistent/r.yaml: No such file or directory")));
  EXPECT_THAT(LoadConfig<RouterConfig>("/tmp", {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("cannot read")));
}

}  // namespace
}  // namespace tandem
