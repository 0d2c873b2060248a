// Router and workers in virtual time: real relays, placement, engine cores and `sim` backends (in
// every other run the toy model, which checks more), over a network, with handoffs and processes
// that fail, and come back with other weights. A seed says everything; one that fails is printed,
// and TANDEM_SEED=N runs it alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "tests/simulation/sim_cluster.h"

namespace tandem {
namespace {

constexpr uint64_t kSeeds = TANDEM_SIMULATION_SEEDS;

// What a run is asked to do.
struct Storm {
  int requests = 12;
  int faults = 8;
  // Patient enough that no request may fail.
  FailoverOptions failover = {.max_attempts = 1000, .max_deaths = 1000, .wait = absl::Hours(1)};
  bool clients_leave = true;
};

class Simulation {
 public:
  Simulation(uint64_t seed, const Storm& storm)
      : storm_(storm),
        backend_(seed % 2 == 0 ? Weights::Backend::kSim : Weights::Backend::kToy),
        cluster_(seed, 2 + seed % 20),
        events_(cluster_.events()) {
    AddWorkers("r");
    if (events_.OneIn(3)) AddWorkers("s");
    for (int i = 0; i < storm_.requests; ++i) {
      events_.After(Sometime(), [this, i] { AddClient(i); });
    }
    for (int i = 0; i < storm_.faults; ++i) {
      events_.After(Sometime(), [this] { Harm(); });
    }
  }

  // Until every client has its end and every worker is at rest.
  void Run() {
    cluster_.Run(storm_.requests);
    for (const auto& client : clients()) {
      SCOPED_TRACE(client->options().request_id);
      Check(*client);
    }
  }

  uint64_t digest() const { return events_.digest(); }
  const std::vector<std::shared_ptr<SimClient>>& clients() const { return cluster_.clients(); }

 private:
  absl::Duration Sometime() { return events_.Between(absl::ZeroDuration(), absl::Seconds(2)); }

  void AddWorkers(const std::string& revision) {
    revisions_.push_back(revision);
    std::vector<WorkerRole> roles = {WorkerRole::kPrefill, WorkerRole::kDecode};
    for (uint64_t more = events_.Below(3); more > 0; --more) {
      roles.push_back(std::vector{WorkerRole::kPrefill, WorkerRole::kDecode,
                                  WorkerRole::kUnified}[events_.Below(3)]);
    }
    if (events_.OneIn(5)) roles = {WorkerRole::kUnified};
    for (const WorkerRole role : roles) {
      SimWorker::Options options = {.role = role,
                                    .blocks = static_cast<uint32_t>(60 + events_.Below(60))};
      options.weights = {revision, backend_};
      options.timing.step = events_.Between(absl::Microseconds(200), absl::Milliseconds(3));
      options.timing.prefill_row = absl::Microseconds(5);
      options.timing.decode_row = absl::Microseconds(50);
      options.engine.max_sequences = static_cast<uint32_t>(4 + events_.Below(12));
      options.engine.max_batch_tokens = 64;
      options.engine.lookahead_tokens = static_cast<uint32_t>(1 + events_.Below(40));
      options.engine.queue_timeout = absl::Hours(1);
      cluster_.AddWorker(std::move(options));
    }
  }

  worker::v1::Submit MakeSubmit(int number) {
    worker::v1::Submit submit;
    submit.set_request_id(absl::StrCat("r", number));
    const int shared = events_.OneIn(2) ? 40 : 0;  // tokens that many prompts begin with
    const int own = static_cast<int>(1 + events_.Below(150));
    for (int i = 0; i < shared; ++i) submit.add_prompt_ids(i % ToyModel::kVocab);
    for (int i = 0; i < own; ++i) {
      submit.add_prompt_ids(static_cast<int32_t>(events_.Below(ToyModel::kVocab)));
    }
    auto* sampling = submit.mutable_sampling();
    sampling->set_temperature(events_.OneIn(2) ? 1.0f : 0.0f);
    sampling->set_seed(events_.Below(1000));
    if (events_.OneIn(3)) sampling->set_frequency_penalty(0.5f);
    if (events_.OneIn(4)) sampling->set_n(static_cast<uint32_t>(2 + events_.Below(3)));
    auto* stopping = submit.mutable_stopping();
    stopping->set_max_tokens(static_cast<uint32_t>(1 + events_.Below(120)));
    if (events_.OneIn(2)) stopping->add_stop_token_ids(7);
    if (events_.OneIn(4)) stopping->set_min_tokens(1 + stopping->max_tokens() / 2);
    if (events_.OneIn(2)) submit.mutable_response()->set_logprobs(1);
    if (events_.OneIn(5)) submit.mutable_response()->set_prompt_logprobs(0);
    return submit;
  }

  void AddClient(int number) {
    SimClient::Options options;
    options.request_id = absl::StrCat("r", number);
    options.submit = MakeSubmit(number);
    options.revision = revisions_[events_.Below(revisions_.size())];
    options.failover = storm_.failover;
    if (events_.OneIn(6)) options.read_pause = absl::Milliseconds(150);
    if (storm_.clients_leave && events_.OneIn(8)) options.cancel_after = Sometime();
    cluster_.AddClient(std::move(options));
  }

  void Harm() {
    SimWorker& worker = *cluster_.workers()[events_.Below(cluster_.workers().size())];
    switch (events_.Below(7)) {
      case 0:
        return worker.Reset();
      case 1:
        return worker.Stall(events_.Between(absl::Milliseconds(100), absl::Seconds(5)));
      case 2:
        return worker.Drain(events_.Between(absl::Milliseconds(20), absl::Seconds(1)));
      case 3:
        return worker.Swap({events_.OneIn(2) ? "s" : "r", backend_},
                           events_.Between(absl::Milliseconds(50), absl::Seconds(2)));
      default:
        return worker.Kill(events_.Between(absl::Milliseconds(20), absl::Seconds(1)));
    }
  }

  void Check(const SimClient& client) {
    const EngineRequest request = client.request();
    const bool whole = client.status().ok();
    if (!whole && !client.cancelled() && storm_.failover.max_attempts > 4) {
      ADD_FAILURE() << "it failed: " << client.status();
    }
    for (uint32_t i = 0; i < client.outputs().size(); ++i) {
      const SimClient::Output& output = client.outputs()[i];
      ToyAnswer expected = ExpectedAnswer(request, i, {client.options().revision, backend_});
      EXPECT_EQ(output.finish.has_value(), whole || output.finish);
      if (whole) {
        EXPECT_EQ(output.token_ids, expected.token_ids) << "output " << i;
      } else {
        ASSERT_LE(output.token_ids.size(), expected.token_ids.size());
        expected.token_ids.resize(output.token_ids.size());
        EXPECT_EQ(output.token_ids, expected.token_ids) << "the beginning of output " << i;
      }
      if (!request.logprobs) continue;
      ASSERT_EQ(output.logprobs.size(), output.token_ids.size());
      for (size_t t = 0; t < output.logprobs.size(); ++t) {
        EXPECT_EQ(output.logprobs[t].token().logprob(), expected.logprobs[t].token.logprob);
      }
    }
  }

  const Storm storm_;
  const Weights::Backend backend_;
  std::vector<std::string> revisions_;  // that are served for good
  SimCluster cluster_;
  Events& events_;  // the cluster's
};

class ClusterSimulation : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { SetLogOptions({.level = LogLevel::kError}); }

  // Each seed; stops at the first one that fails.
  void ForSeeds(uint64_t count, const std::function<void(uint64_t)>& run) {
    const char* const one = std::getenv("TANDEM_SEED");
    const uint64_t first = one == nullptr ? 1 : std::strtoull(one, nullptr, 10);
    const uint64_t last = one == nullptr ? count : first;
    for (uint64_t seed = first; seed <= last && !HasFailure(); ++seed) {
      SCOPED_TRACE(absl::StrCat("TANDEM_SEED=", seed));
      run(seed);
    }
  }
};

TEST_F(ClusterSimulation, NoRequestFailsAndNoTokenChangesWhateverBreaks) {
  uint64_t moved = 0, most = 0;
  ForSeeds(kSeeds, [&](uint64_t seed) {
    Simulation simulation(seed, Storm());
    simulation.Run();
    for (const auto& client : simulation.clients()) {
      moved += client->attempts() > 1;
      most = std::max<uint64_t>(most, client->attempts());
    }
  });
  RecordProperty("moved", std::to_string(moved));
  if (std::getenv("TANDEM_SEED") == nullptr) {
    EXPECT_GT(moved, kSeeds);  // of twelve a seed
    EXPECT_GT(most, 4u);
  }
}

TEST_F(ClusterSimulation, WithTheUsualPatienceARequestEndsOnceAndWhatItSaidIsRight) {
  Storm storm;
  storm.faults = 30;
  storm.failover = {};
  storm.failover.wait = absl::Seconds(1);
  uint64_t failed = 0;
  ForSeeds(kSeeds / 4, [&](uint64_t seed) {
    Simulation simulation(seed, storm);
    simulation.Run();
    for (const auto& client : simulation.clients()) {
      if (client->status().ok() || client->cancelled()) continue;
      ++failed;
      const absl::StatusCode code = client->status().code();
      EXPECT_TRUE(code == absl::StatusCode::kUnavailable || code == absl::StatusCode::kDataLoss ||
                  code == absl::StatusCode::kAborted ||
                  code == absl::StatusCode::kFailedPrecondition)
          << client->status();
    }
  });
  EXPECT_TRUE(failed > 0 || std::getenv("TANDEM_SEED") != nullptr) << "nothing was at stake";
}

TEST_F(ClusterSimulation, ASeedReplaysExactly) {
  ForSeeds(10, [](uint64_t seed) {
    std::vector<uint64_t> digests;
    for (int i = 0; i < 2; ++i) {
      Simulation simulation(seed, Storm());
      simulation.Run();
      digests.push_back(simulation.digest());
    }
    EXPECT_EQ(digests[0], digests[1]);
  });
}

}  // namespace
}  // namespace tandem
