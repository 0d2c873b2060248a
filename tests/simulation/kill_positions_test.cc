// Requests whose workers die, or lose each other, once their client has read so many tokens: at
// every position of the answer, for every kind of request, what it reads in the end is, to the last
// bit, what it would have read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "tests/simulation/sim_cluster.h"

namespace tandem {
namespace {

constexpr uint64_t kMoments = TANDEM_SIMULATION_MOMENTS;  // tried at each position
constexpr uint32_t kTokens = 24;                          // of each output

enum class Kind { kGreedy, kSampled, kGuided, kSeveral };
// The link is the KV's; sessions are the router's with the workers.
enum class Victim { kPrefill, kDecode, kBoth, kLink, kSessions };

worker::v1::Submit SubmitOf(Kind kind) {
  worker::v1::Submit submit;
  submit.set_request_id("r");
  for (int i = 0; i < 40; ++i) submit.add_prompt_ids(1 + (i * i + 7) % (ToyModel::kVocab - 1));
  auto* sampling = submit.mutable_sampling();
  sampling->set_temperature(kind == Kind::kGreedy ? 0 : 1);
  sampling->set_seed(5);
  submit.mutable_stopping()->set_max_tokens(kTokens);
  submit.mutable_response()->set_logprobs(2);
  switch (kind) {
    case Kind::kGreedy:
      break;
    case Kind::kSampled:
      sampling->set_presence_penalty(0.5f);
      sampling->set_frequency_penalty(0.25f);
      sampling->set_repetition_penalty(1.25f);
      for (int id = 0; id < ToyModel::kVocab / 2; ++id) {
        submit.mutable_stopping()->add_stop_token_ids(id);
      }
      submit.mutable_stopping()->set_min_tokens(kTokens - 1);
      submit.mutable_response()->set_prompt_logprobs(1);
      break;
    case Kind::kGuided:
      submit.mutable_stopping()->add_stop_token_ids(0);
      submit.mutable_guided()->set_regex(absl::StrCat("([a-c][0-9]){", kTokens / 2, "}"));
      break;
    case Kind::kSeveral:
      sampling->set_n(4);
      break;
  }
  return submit;
}

// All that a client reads, to the last bit: of each output, its ids, text, log-probabilities and
// end, and the prompt's log-probabilities.
std::string Said(const SimClient& client) {
  std::string said = absl::StrCat(client.status().ToString(), "\n");
  for (const SimClient::Output& output : client.outputs()) {
    for (const int32_t id : output.token_ids) absl::StrAppend(&said, id, " ");
    absl::StrAppend(&said, "\n", output.text, "\n");
    for (const auto& one : output.logprobs) absl::StrAppend(&said, one.SerializeAsString());
    if (output.finish) absl::StrAppend(&said, "\nends: ", output.finish->SerializeAsString());
  }
  for (const auto& one : client.prompt_logprobs()) {
    absl::StrAppend(&said, one.SerializeAsString());
  }
  return said;
}

struct Blow {
  Victim victim = Victim::kDecode;
  size_t position = 0;  // how many tokens the client has by then
  uint64_t moment = 0;  // 0: at once; else some time after that
};

struct Heard {
  std::string said;
  uint32_t attempts = 0;
  size_t tokens = 0;
  size_t struck_at = 0;
};

class Play {
 public:
  Play(Kind kind, std::optional<Blow> blow)
      : blow_(blow), cluster_(/*seed=*/blow ? 1 + blow->position * 100 + blow->moment : 1, 0) {
    const uint64_t pairs = blow && blow->moment % 2 == 1 ? 2 : 1;
    for (uint64_t i = 0; i < 2 * pairs; ++i) {
      SimWorker::Options options;
      options.role = i % 2 == 0 ? WorkerRole::kPrefill : WorkerRole::kDecode;
      options.engine.max_batch_tokens = 32;
      options.engine.max_sequences = 16;
      options.engine.lookahead_tokens = 8;
      cluster_.AddWorker(std::move(options));
    }
    SimClient::Options options;
    options.request_id = "r";
    options.submit = SubmitOf(kind);
    options.failover.wait = absl::Seconds(30);
    options.read_pause = absl::ZeroDuration();
    options.deltas = {};
    options.on_tokens = [this](const SimClient& client, size_t tokens) {
      if (!blow_ || struck_at_ || tokens < blow_->position) return;
      struck_at_ = tokens;
      if (blow_->moment == 0) return Strike(client);
      Events& events = cluster_.events();
      events.After(events.Between(absl::ZeroDuration(), absl::Milliseconds(8)),
                   [this, &client] { Strike(client); });
    };
    // Once the router knows its workers.
    cluster_.events().After(absl::Seconds(1), [this, options] { cluster_.AddClient(options); });
  }

  Heard Hear() {
    cluster_.Run(1);
    const SimClient& client = *cluster_.clients().front();
    Heard heard = {Said(client), client.attempts(), 0, struck_at_.value_or(SIZE_MAX)};
    for (const SimClient::Output& output : client.outputs())
      heard.tokens += output.token_ids.size();
    return heard;
  }

 private:
  void Strike(const SimClient& client) {
    const std::vector<SimWorker*> serving = client.serving();
    const bool prefill = blow_->victim != Victim::kDecode;
    const bool decode = blow_->victim != Victim::kPrefill;
    if (blow_->victim == Victim::kLink) return cluster_.handoffs().Break();
    for (size_t i = 0; i < serving.size(); ++i) {
      if (i == 0 ? !decode : !prefill) continue;
      if (blow_->victim == Victim::kSessions) {
        serving[i]->Reset();
      } else {
        serving[i]->Kill(cluster_.events().Between(absl::Milliseconds(20), absl::Seconds(1)));
      }
    }
  }

  const std::optional<Blow> blow_;
  SimCluster cluster_;
  std::optional<size_t> struck_at_;
};

using Case = std::tuple<Kind, Victim>;

std::string NameOf(const ::testing::TestParamInfo<Case>& info) {
  static constexpr const char* kKinds[] = {"Greedy", "Sampled", "Guided", "FourOutputs"};
  static constexpr const char* kVictims[] = {"PrefillWorker", "DecodeWorker", "Both", "Link",
                                             "Sessions"};
  return absl::StrCat(kKinds[static_cast<size_t>(std::get<0>(info.param))],
                      kVictims[static_cast<size_t>(std::get<1>(info.param))]);
}

class KillPositions : public ::testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() { SetLogOptions({.level = LogLevel::kError}); }
};

TEST_P(KillPositions, AtEveryPositionTheAnswerIsWhatItWouldHaveBeen) {
  const auto [kind, victim] = GetParam();
  const Heard expected = Play(kind, std::nullopt).Hear();
  ASSERT_EQ(expected.attempts, 1u);
  ASSERT_EQ(expected.tokens, (kind == Kind::kSeveral ? 4 : 1) * kTokens) << expected.said;
  uint64_t moved = 0;
  std::set<size_t> struck;  // positions
  for (size_t position = 0; position <= expected.tokens; ++position) {
    for (uint64_t moment = 0; moment < kMoments; ++moment) {
      SCOPED_TRACE(absl::StrCat("position ", position, ", moment ", moment));
      const Heard heard = Play(kind, Blow{victim, position, moment}).Hear();
      ASSERT_EQ(heard.said, expected.said);
      struck.insert(heard.struck_at);
      moved += heard.attempts > 1;
      if (moment > 0 || position == expected.tokens) continue;
      // Nothing that was to come can have come without it.
      const bool must_move =
          victim != Victim::kLink && (victim != Victim::kPrefill || position == 0);
      EXPECT_TRUE(heard.attempts > 1 || !must_move);
    }
  }
  EXPECT_EQ(struck.size(), expected.tokens + 1) << "some position was passed over";
  EXPECT_GT(moved, 0u) << "nothing was at stake";
  RecordProperty("moved", std::to_string(moved));
}

INSTANTIATE_TEST_SUITE_P(All, KillPositions,
                         ::testing::Combine(::testing::Values(Kind::kGreedy, Kind::kSampled,
                                                              Kind::kGuided, Kind::kSeveral),
                                            ::testing::Values(Victim::kPrefill, Victim::kDecode,
                                                              Victim::kBoth, Victim::kLink,
                                                              Victim::kSessions)),
                         NameOf);

TEST(KillPositionsReference, TheUndisturbedAnswerIsWhatTheModelSaysAlone) {
  for (const Kind kind : {Kind::kGreedy, Kind::kSampled, Kind::kSeveral}) {
    SimCluster cluster(1, 0);
    SimWorker::Options options;
    options.engine.max_batch_tokens = 32;
    options.engine.max_sequences = 16;
    cluster.AddWorker(std::move(options));
    SimClient::Options asked;
    asked.request_id = "r";
    asked.submit = SubmitOf(kind);
    const SimClient& client = cluster.AddClient(std::move(asked));
    cluster.Run(1);
    for (uint32_t i = 0; i < client.outputs().size(); ++i) {
      EXPECT_EQ(client.outputs()[i].token_ids,
                ExpectedAnswer(client.request(), i, Weights()).token_ids);
    }
  }
}

}  // namespace
}  // namespace tandem
