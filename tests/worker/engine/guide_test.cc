#include "worker/engine/guide.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"
#include "tests/worker/engine/harness.h"
#include "tests/worker/engine/letters.h"
#include "tests/worker/engine/pair.h"

// Guided requests: the engine, the pool's threads, and the toy model with a vocabulary of letters.
namespace tandem {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

using Kind = GrammarSource::Kind;

constexpr int32_t kEnd = kEndId;
static_assert(kLetters.size() + 1 == ToyModel::kVocab);

std::string TextOf(const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) text += id == kEnd ? '$' : kLetters[id - 1];
  return text;
}

EngineRequest Guided(uint64_t handle, GrammarSource source, uint32_t max_tokens = 200) {
  EngineRequest request = ToyRequest(handle, 1 + handle * 23 % 90, max_tokens);
  request.stop_ids = {kEnd};
  request.guided = std::move(source);
  request.logprobs = 1;
  return request;
}

constexpr char kSchema[] =
    R"({"type":"object","properties":{"kind":{"enum":["cat","dog"]},"ages":{"type":"array",
        "items":{"type":"integer","minimum":0,"maximum":99},"maxItems":3}},"required":["kind"],
        "additionalProperties":false,"x-guidance":{"whitespace_flexible":false}})";

// Ten of different kinds, and two without a grammar.
std::vector<EngineRequest> Requests() {
  const GrammarSource sources[] = {
      {Kind::kRegex, "[a-e]{3,9}", {}},
      {Kind::kChoice, "", {"yes", "no", "yes and no"}},
      {Kind::kJsonSchema, kSchema, {}},
      {Kind::kLark, "start: \"[\" (WORD (\",\" WORD)*)? \"]\"\nWORD: /[a-z]{1,3}/", {}},
      {Kind::kRegex, "(ab)+c?", {}},
  };
  std::vector<EngineRequest> requests;
  for (uint64_t handle = 1; handle <= 12; ++handle) {
    requests.push_back(Guided(handle, sources[handle % 5]));
    if (handle % 6 == 0) requests.back().guided.reset(), requests.back().max_tokens = 30;
    if (handle % 4 == 0) requests.back().sampling.temperature = 0.7f;
  }
  return requests;
}

struct GuidedCore {
  explicit GuidedCore(GuidePool* pool, EngineOptions options = SmallOptions(),
                      uint32_t blocks = 400)
      : harness({.blocks = blocks}, options) {
    harness.guides = pool;
    harness.Connect(nullptr, nullptr);
  }
  Heard Answer(const EngineRequest& request) {
    harness.Submit(request);
    harness.RunDry();
    return harness.sink->heard[request.handle];
  }
  ~GuidedCore() {
    EXPECT_THAT(harness.sink->faults, IsEmpty());
    EXPECT_EQ(harness.core->load().blocks_free, harness.pool->blocks());
  }
  CoreHarness harness;
};

class GuideTest : public testing::Test {
 protected:
  GuidePool inline_{LettersTokenizer(), ToyModel::kVocab, {.threads = false}};
};

TEST_F(GuideTest, AnOutputIsASentenceAndEndsWhereThatDoes) {
  GuidedCore core(&inline_);
  std::set<std::string> seen;
  for (const EngineRequest& request : Requests()) {
    if (!request.guided) continue;
    const Heard heard = core.Answer(request);
    ASSERT_TRUE(heard.finish.has_value()) << heard.error;
    EXPECT_EQ(heard.finish->reason, FinishReason::kStop);
    std::string text = TextOf(heard.token_ids);
    EXPECT_EQ(heard.finish->stop_token_id.has_value(), absl::EndsWith(text, "$"));
    if (absl::EndsWith(text, "$")) text.pop_back();
    seen.insert(text);
    switch (request.guided->kind) {
      case Kind::kRegex:
        EXPECT_TRUE(std::regex_match(text, std::regex(request.guided->text))) << text;
        break;
      case Kind::kChoice:
        EXPECT_THAT(request.guided->choices, testing::Contains(text));
        break;
      case Kind::kLark:
        EXPECT_TRUE(std::regex_match(text, std::regex(R"(\[([a-z]+(,[a-z]+)*)?\])"))) << text;
        break;
      case Kind::kJsonSchema:
        EXPECT_TRUE(nlohmann::json::accept(text)) << text;
        EXPECT_THAT(text, StartsWith("{\"kind\":\""));
        break;
    }
  }
  EXPECT_GT(seen.size(), 6u);
}

TEST_F(GuideTest, PreemptionKeepsTheStateOfAGrammar) {
  MetricRegistry registry;
  const WorkerMetrics metrics(&registry);
  GuidedCore roomy(&inline_);
  GuidedCore narrow(&inline_, {.max_sequences = 8, .max_batch_tokens = 64, .lookahead_tokens = 1},
                    /*blocks=*/12);
  const EngineMetrics counted(metrics, "toy", narrow.harness.model.kv()->layout(), 12);
  narrow.harness.metrics = &counted;
  narrow.harness.Connect(nullptr, nullptr);
  std::vector<EngineRequest> requests;
  for (uint64_t handle = 1; handle <= 5; ++handle) {
    requests.push_back(Guided(handle, {Kind::kRegex, "([a-e]{10} [0-9]){4}", {}}, 80));
    narrow.harness.Submit(requests.back());
  }
  narrow.harness.RunDry();
  EXPECT_THAT(registry.Text(), testing::ContainsRegex("worker_preemptions_total.* [1-9]"));
  for (const EngineRequest& request : requests) {
    const Heard want = roomy.Answer(request);
    const Heard& got = narrow.harness.sink->heard[request.handle];
    EXPECT_EQ(want.token_ids, got.token_ids);
    EXPECT_EQ(want.logprobs, got.logprobs);
    EXPECT_EQ(want.finish, got.finish);
  }
}

TEST_F(GuideTest, LogprobsAreThoseOfTheRawLogits) {
  GuidedCore core(&inline_);
  EngineRequest request = Guided(1, {Kind::kRegex, "a+", {}}, 5);
  const Heard heard = core.Answer(request);
  request.guided.reset();
  EXPECT_EQ(heard.logprobs[0].top, ExpectedAnswer(request).logprobs[0].top);
  EXPECT_GT(heard.logprobs[0].token.rank, 1u) << "an unlikely token was forced";
}

TEST_F(GuideTest, AStopIdMayStandWhereTheSentenceMayEndOnly) {
  GuidedCore core(&inline_);
  EngineRequest request = Guided(1, {Kind::kRegex, "(ab)+", {}});
  for (uint64_t seed = 0; seed < 20; ++seed) {
    request.handle = seed + 1;
    request.request_id = absl::StrCat(seed);
    request.sampling.seed = seed;
    EXPECT_THAT(TextOf(core.Answer(request).token_ids), testing::MatchesRegex("(ab)+\\$"));
  }
  // A letter as a stop id: it may not cut the sentence short either.
  request.handle = 100;
  request.request_id = "letter";
  request.stop_ids = {static_cast<int32_t>(kLetters.find('a')) + 1};
  request.guided = GrammarSource{Kind::kRegex, "[a-c]{3}x*", {}};
  EXPECT_THAT(TextOf(core.Answer(request).token_ids), testing::MatchesRegex("[bc][bc][bc]x*a"));
}

TEST_F(GuideTest, WithoutAStopIdTheSentenceEndsWhereNothingCanFollow) {
  GuidedCore core(&inline_);
  EngineRequest request = Guided(1, {Kind::kRegex, "[a-c]{3}", {}});
  request.stop_ids.clear();  // ignore_eos
  Heard heard = core.Answer(request);
  EXPECT_EQ(heard.token_ids.size(), 3u);
  EXPECT_EQ(heard.finish->reason, FinishReason::kStop);
  EXPECT_EQ(heard.finish->stop_token_id, std::nullopt);
  request = Guided(2, {Kind::kRegex, "[a-c]+", {}}, 25);
  request.stop_ids.clear();
  heard = core.Answer(request);
  EXPECT_EQ(heard.token_ids.size(), 25u);
  EXPECT_EQ(heard.finish->reason, FinishReason::kLength);
}

TEST_F(GuideTest, MaxTokensCutsASentenceOff) {
  GuidedCore core(&inline_);
  const Heard cut = core.Answer(Guided(1, {Kind::kJsonSchema, kSchema, {}}, 5));
  EXPECT_EQ(TextOf(cut.token_ids), "{\"kin");
  EXPECT_EQ(cut.finish->reason, FinishReason::kLength);
  const Heard exact = core.Answer(Guided(2, {Kind::kChoice, "", {"yes"}}, 3));
  EXPECT_EQ(exact.finish->reason, FinishReason::kStop) << "complete, not cut off";
}

TEST_F(GuideTest, AWrongGrammarEndsTheRequestNamingTheField) {
  GuidedCore core(&inline_);
  const std::pair<std::string, GrammarSource> cases[] = {
      {"guided.json_schema: not JSON", {Kind::kJsonSchema, "{", {}}},
      {"guided.regex: ", {Kind::kRegex, "(", {}}},
      {"guided.ebnf: ", {Kind::kLark, "start: nothing", {}}},
      {"guided.choice: ", {Kind::kChoice, "", {}}},
  };
  uint64_t handle = 0;
  for (const auto& [words, source] : cases) {
    EXPECT_THAT(core.Answer(Guided(++handle, source)).error,
                StatusIs(absl::StatusCode::kInvalidArgument, StartsWith(words)));
  }
}

TEST_F(GuideTest, AGrammarThatTheVocabularyCannotSpellEndsTheRequest) {
  GuidedCore core(&inline_);
  const Heard heard = core.Answer(Guided(1, {Kind::kRegex, "aA", {}}));
  EXPECT_EQ(TextOf(heard.token_ids), "a");
  EXPECT_THAT(heard.error, StatusIs(absl::StatusCode::kInvalidArgument,
                                    AllOf(HasSubstr("guided.regex: "), HasSubstr("no token"))));
  EngineRequest stopping = Guided(2, {Kind::kRegex, "ab", {}});
  stopping.stop_ids = {1};  // "a"
  EXPECT_THAT(core.Answer(stopping).error,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("would stop the output")));
}

// Of the fields that leave nothing only those are named that the request has.
TEST_F(GuideTest, AFieldThatLeavesNoTokenIsNamed) {
  GuidedCore core(&inline_);
  EngineRequest request = Guided(1, {Kind::kChoice, "", {"a"}});
  request.sampling.allowed_ids = {2};  // b
  EXPECT_THAT(core.Answer(request).error,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "sampling.allowed_token_ids: no token is left that the grammar allows"));
  request.handle = 2;
  request.min_tokens = 3;
  EXPECT_THAT(core.Answer(request).error, StatusIs(absl::StatusCode::kInvalidArgument,
                                                   AllOf(StartsWith("sampling.allowed_token_ids: "),
                                                         HasSubstr("with stopping.min_tokens"))));
  request.handle = 3;
  request.sampling.allowed_ids.clear();
  EXPECT_THAT(core.Answer(request).error, IsOk()) << "a sentence that can only end may";
}

TEST_F(GuideTest, AGrammarThatIsNotCompiledInTimeSaysSoAndTheTimeForBlocksComesAfter) {
  GuidedCore core(&inline_, SmallOptions(), 16);
  CoreHarness& h = core.harness;
  h.Submit(ToyRequest(1, 16, 240));  // takes all blocks
  h.Turn();
  h.Submit(Guided(2, {Kind::kRegex, "a+", {}}, 30));  // compiled, but the core has not heard it
  h.clock.Advance(h.options.queue_timeout - absl::Seconds(1));
  h.core->Step();
  EXPECT_THAT(h.sink->heard[2].error, IsOk());
  h.Turn();  // now it has
  h.clock.Advance(h.options.queue_timeout - absl::Seconds(1));
  h.Turn();
  EXPECT_THAT(h.sink->heard[2].error, IsOk()) << "its time for blocks has just begun";
  h.Submit(Guided(3, {Kind::kRegex, "a+", {}}, 30));
  h.clock.Advance(h.options.queue_timeout);
  h.core->Step();
  EXPECT_THAT(h.sink->heard[2].error,
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("too few KV blocks")));
  EXPECT_THAT(h.sink->heard[3].error,
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("its grammar was not compiled")));
  h.RunDry();
}

TEST_F(GuideTest, AModelWithoutAUsableTokenizerRefuses) {
  GuidedCore none(nullptr);
  EXPECT_THAT(none.Answer(Guided(1, {Kind::kRegex, "a", {}})).refusal,
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("tokenizer")));
  GuidePool broken("{", ToyModel::kVocab, {.threads = false});
  GuidedCore core(&broken);
  for (uint64_t handle : {1, 2}) {
    EXPECT_THAT(core.Answer(Guided(handle, {Kind::kRegex, "a", {}})).error,
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("tokenizer.json")));
  }
}

TEST_F(GuideTest, GrammarsAndMasksAreCounted) {
  MetricRegistry registry;
  const GuideMetrics metrics(WorkerMetrics(&registry), "toy");
  GuidePool pool(LettersTokenizer(), ToyModel::kVocab, {.threads = false, .metrics = &metrics});
  GuidedCore core(&pool);
  size_t tokens = 0;
  for (uint64_t handle : {1, 2}) {
    tokens += core.Answer(Guided(handle, {Kind::kRegex, "[a-e]{5}", {}})).token_ids.size();
  }
  core.Answer(Guided(3, {Kind::kRegex, "(", {}}));
  EXPECT_EQ(metrics.compiled.Value(), 1);
  EXPECT_EQ(metrics.reused.Value(), 1);
  EXPECT_EQ(metrics.failed.Value(), 1);
  const std::string text = registry.Text();
  EXPECT_THAT(text, HasSubstr("grammar_compile_duration_seconds_count{model=\"toy\"} 2"));
  EXPECT_THAT(
      text, HasSubstr(absl::StrCat("grammar_mask_duration_seconds_count{model=\"toy\"} ", tokens)));
}

// Each request alone, every mask computed by the engine's thread.
std::map<uint64_t, Heard> Alone(GuidePool* pool) {
  std::map<uint64_t, Heard> answers;
  for (const EngineRequest& request : Requests()) {
    GuidedCore core(pool);
    answers[request.handle] = core.Answer(request);
  }
  return answers;
}

void ExpectSame(const Heard& want, const Heard& got) {
  EXPECT_EQ(want.token_ids, got.token_ids);
  EXPECT_EQ(want.logprobs, got.logprobs);
  EXPECT_EQ(want.finish, got.finish);
}

void RunUntilAllEnd(GuidedCore& core) {
  const auto over = [&](const EngineRequest& request) {
    return core.harness.sink->heard[request.handle].over(Role::kUnified);
  };
  const std::vector<EngineRequest> requests = Requests();
  while (!std::all_of(requests.begin(), requests.end(), over)) core.harness.Turn();
}

TEST_F(GuideTest, ABatchAndThePoolsThreadsChangeNothing) {
  const std::map<uint64_t, Heard> alone = Alone(&inline_);
  GuidePool threads(LettersTokenizer(), ToyModel::kVocab, {});
  for (GuidePool* pool : {&inline_, &threads}) {
    for (const uint32_t budget : {32u, 64u}) {
      GuidedCore core(pool, {.max_sequences = 16, .max_batch_tokens = budget});
      for (const EngineRequest& request : Requests()) core.harness.Submit(request);
      RunUntilAllEnd(core);
      for (const auto& [handle, want] : alone) {
        SCOPED_TRACE(handle);
        ExpectSame(want, core.harness.sink->heard[handle]);
      }
    }
  }
}

TEST_F(GuideTest, SplitEqualsUnifiedWhoeverHasTheGrammarFirst) {
  const std::map<uint64_t, Heard> alone = Alone(&inline_);
  for (const bool late : {false, true}) {
    GuidePool threads(LettersTokenizer(), ToyModel::kVocab, {});
    GuidedCore prefill(&inline_), decode(&threads);
    FakeHandoff handoff(prefill.harness.model.kv(), decode.harness.model.kv());
    prefill.harness.Connect(&handoff, nullptr);
    decode.harness.Connect(nullptr, &handoff);
    std::string slow =
        R"({"$ref":"#/$defs/a0","$defs":{)";  // the decode worker compiles this first
    for (int i = 0; i < 3000; ++i) {
      absl::StrAppend(&slow, "\"a", i, R"(":{"items":{"$ref":"#/$defs/a)", i + 1, "\"}},");
    }
    slow += R"("a3000":{"type":"null"}}})";
    std::shared_ptr<Guide> first;
    if (late)
      first = threads.Begin({Kind::kJsonSchema, slow, {}}, {}, {{}}, [](absl::Status) {})[0];
    for (EngineRequest request : Requests()) {
      request.role = Role::kPrefill;
      request.peer = "decode:1";
      prefill.harness.Submit(request);
      request.role = Role::kDecode;
      decode.harness.Submit(request);
    }
    const auto over = [&](const EngineRequest& r) {
      return decode.harness.sink->heard[r.handle].over(Role::kDecode);
    };
    const std::vector<EngineRequest> requests = Requests();
    while (!std::all_of(requests.begin(), requests.end(), over)) {
      prefill.harness.Turn();
      decode.harness.Turn();
      handoff.Deliver();
    }
    prefill.harness.RunDry();
    EXPECT_THAT(handoff.faults, IsEmpty());
    for (const EngineRequest& request : requests) {
      SCOPED_TRACE(request.handle);
      Heard joined = decode.harness.sink->heard[request.handle];
      const Heard& told = prefill.harness.sink->heard[request.handle];
      ASSERT_EQ(told.token_ids.size(), 1u) << told.error;
      EXPECT_EQ(told.token_ids[0], joined.token_ids[0]);
      joined.logprobs.insert(joined.logprobs.begin(), told.logprobs[0]);
      ExpectSame(alone.at(request.handle), joined);
    }
  }
}

// Each of several outputs has the grammar to itself, with threads and without, on one worker and
// over two.
TEST_F(GuideTest, EachOutputIsASentenceOfItsOwn) {
  GuidePool threads(LettersTokenizer(), ToyModel::kVocab, {});
  std::map<uint64_t, Heard> alone;
  std::set<std::string> seen;
  for (GuidePool* pool : {&inline_, &threads}) {
    GuidedCore core(pool), prefill(pool), decode(pool);
    FakeHandoff handoff(prefill.harness.model.kv(), decode.harness.model.kv());
    prefill.harness.Connect(&handoff, nullptr);
    decode.harness.Connect(nullptr, &handoff);
    for (EngineRequest request : Requests()) {
      SCOPED_TRACE(request.handle);
      request.outputs = 3;
      core.harness.Submit(request);
      EngineRequest half = request;
      half.role = Role::kPrefill;
      prefill.harness.Submit(half);
      half.role = Role::kDecode;
      decode.harness.Submit(half);
      const auto over = [&] {
        return core.harness.sink->heard[request.handle].over(Role::kUnified) &&
               decode.harness.sink->heard[request.handle].over(Role::kDecode);
      };
      while (!over()) {
        for (GuidedCore* one : {&core, &prefill, &decode}) one->harness.Turn();
        handoff.Deliver();
      }
      prefill.harness.Turn();
      const Heard& heard = core.harness.sink->heard[request.handle];
      if (pool == &inline_) alone[request.handle] = heard;
      for (uint32_t i = 0; i < 3; ++i) {
        const std::vector<int32_t>& ids = heard.output(i).token_ids;
        EXPECT_EQ(ids, alone[request.handle].output(i).token_ids);
        EXPECT_EQ(ids, decode.harness.sink->heard[request.handle].output(i).token_ids);
        const std::string text = TextOf(ids);
        if (request.guided && request.guided->kind == Kind::kJsonSchema) {
          EXPECT_TRUE(nlohmann::json::accept(text.substr(0, text.find('$')))) << text;
        }
        EXPECT_TRUE(heard.output(i).finish->reason == FinishReason::kStop || !request.guided);
        seen.insert(text);
      }
    }
    EXPECT_THAT(handoff.faults, IsEmpty());
  }
  EXPECT_GT(seen.size(), 20u) << "outputs differ";
}

TEST_F(GuideTest, AWrongGrammarEndsBothSidesOfASplit) {
  GuidedCore prefill(&inline_), decode(&inline_);
  FakeHandoff handoff(prefill.harness.model.kv(), decode.harness.model.kv());
  prefill.harness.Connect(&handoff, nullptr);
  decode.harness.Connect(nullptr, &handoff);
  EngineRequest request = Guided(1, {Kind::kRegex, "(", {}});
  SubmitSplit(request, prefill.harness, decode.harness);
  RunSplit(prefill.harness, decode.harness, handoff, 5);
  for (GuidedCore* core : {&prefill, &decode}) {
    EXPECT_THAT(core->harness.sink->heard[1].error,
                StatusIs(absl::StatusCode::kInvalidArgument, StartsWith("guided.regex: ")));
  }
  EXPECT_EQ(handoff.open(), 0u);
}

// Cancelled at any moment, a guided request leaves nothing behind. Threads may be at work on it.
TEST_F(GuideTest, CancelledWhileItsGrammarOrAMaskIsComputed) {
  GuidePool threads(LettersTokenizer(), ToyModel::kVocab, {});
  GuidedCore core(&threads);
  for (uint64_t handle = 1; handle <= 40; ++handle) {
    core.harness.Submit(Guided(handle, {Kind::kJsonSchema, kSchema, {}}));
    while (handle % 2 == 1 && core.harness.sink->heard[handle].token_ids.empty()) {
      core.harness.Turn();
    }
    for (uint64_t turn = 0; turn < handle % 7; ++turn) core.harness.Turn();
    core.harness.core->Cancel(CoreHarness::kSession, handle);
    core.harness.Turn();
    EXPECT_TRUE(core.harness.sink->heard[handle].over(Role::kUnified));
  }
}

}  // namespace
}  // namespace tandem
