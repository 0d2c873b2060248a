// Raw bits of every log-probability of sampled requests, guided and not, on a random model: they do
// not depend on batch neighbours, chunks, threads, preemption, who had the blocks before or what
// was in the prefix cache.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "tests/support/fake_clock.h"
#include "tests/support/random_model.h"
#include "tests/worker/engine/harness.h"
#include "tests/worker/engine/letters.h"
#include "worker/model/decoder.h"

namespace tandem {
namespace {

using ::testing::IsEmpty;

struct Setup {
  std::string name;
  int threads = 1;
  uint32_t max_batch_tokens = 256;
  uint32_t blocks = 256;
  uint32_t lookahead = 256;
  bool prefix_cache = true;
  bool one_by_one = false;
  int rounds = 1;  // all requests again, in the engine that has seen them
  bool preempts = false;
  bool hits = false;
};

std::vector<EngineRequest> Requests() {
  std::vector<EngineRequest> requests;
  for (uint64_t handle = 1; handle <= 16; ++handle) {
    EngineRequest request = ToyRequest(handle, 1 + handle * 23 % 120, 24);
    request.logprobs = 5;
    if (handle % 3 == 0) request.prompt_logprobs = 2;
    if (handle % 2 == 0) {
      request.guided = GrammarSource{GrammarSource::Kind::kRegex, "([a-e]{1,6} [0-9]){2,4}", {}};
      request.stop_ids = {kEndId};
    }
    if (handle % 5 == 0) Adjust(request, 6);
    requests.push_back(std::move(request));
  }
  return requests;
}

// Every bit of it that a client could see.
std::vector<uint32_t> BitsOf(const Heard& heard) {
  std::vector<uint32_t> bits(heard.token_ids.begin(), heard.token_ids.end());
  for (const auto* positions : {&heard.prompt_logprobs, &heard.logprobs}) {
    const std::vector<uint32_t> more = BitsOf(*positions);
    bits.insert(bits.end(), more.begin(), more.end());
  }
  bits.push_back(static_cast<uint32_t>(heard.finish->reason));
  return bits;
}

class Runner {
 public:
  explicit Runner(const Setup& setup) : setup_(setup) {
    EngineOptions options;
    options.max_sequences = 16;
    options.max_batch_tokens = setup.max_batch_tokens;
    options.lookahead_tokens = setup.lookahead;
    options.prefix_cache = setup.prefix_cache;
    EngineParts parts;
    parts.model = decoder_.get();
    parts.pool = pool_.get();
    parts.clock = &clock_;
    parts.metrics = &counted_;
    parts.guides = &guides_;
    core_ = *EngineCore::Create(
        options, parts, [this](EngineMessage message) { posted_.push_back(std::move(message)); });
    core_->OpenSession(SessionId{1}, sink_);
  }

  // By handle: of the last round.
  std::map<uint64_t, std::vector<uint32_t>> Run() {
    std::map<uint64_t, std::vector<uint32_t>> bits;
    for (int round = 0; round < setup_.rounds; ++round) {
      const uint64_t offset = 100 * round;
      for (EngineRequest request : Requests()) {
        request.handle += offset;
        core_->Submit(SessionId{1}, std::move(request));
        if (setup_.one_by_one) RunDry();
      }
      RunDry();
      for (const EngineRequest& request : Requests()) {
        bits[request.handle] = BitsOf(sink_->heard[request.handle + offset]);
      }
    }
    EXPECT_THAT(sink_->faults, IsEmpty());
    EXPECT_EQ(core_->load().blocks_free, setup_.blocks);
    EXPECT_EQ(setup_.preempts, !Is("preemptions_total", 0));
    EXPECT_EQ(setup_.hits, !Is("prefix_cache_hits_total", 0));
    return bits;
  }

 private:
  void RunDry() {
    do {
      for (EngineMessage& message : std::exchange(posted_, {})) message(*core_);
    } while (core_->Step() || !posted_.empty());
  }
  bool Is(absl::string_view metric, int value) const {
    return absl::StrContains(registry_.Text(), absl::StrCat("tandem_worker_", metric,
                                                            "{model=\"random\"} ", value, "\n"));
  }
  static std::unique_ptr<Decoder> Load(const Setup& setup, Backend* backend) {
    const RandomModel weights(RandomModel::SmallSpec());
    Decoder::Options options;
    options.kv_blocks = setup.blocks;
    options.max_rows = 256;
    options.max_logit_rows = 64;
    const auto find = [&](absl::string_view name, int layer) { return weights.Find(name, layer); };
    return *Decoder::Load(weights.spec(), find, backend, options);
  }

  const Setup setup_;
  FakeClock clock_;
  const std::unique_ptr<Backend> backend_ = *MakeCpuBackend({.threads = setup_.threads});
  const std::unique_ptr<Decoder> decoder_ = Load(setup_, backend_.get());
  const std::unique_ptr<BlockPool> pool_ = *BlockPool::Create({.blocks = setup_.blocks});
  MetricRegistry registry_;
  const WorkerMetrics metrics_{&registry_};
  const EngineMetrics counted_{metrics_, "random", decoder_->kv()->layout(), setup_.blocks};
  GuidePool guides_{LettersTokenizer(), decoder_->spec().vocab, {.threads = false}};
  std::vector<EngineMessage> posted_;
  std::unique_ptr<EngineCore> core_;
  const std::shared_ptr<RecordingSink> sink_ = std::make_shared<RecordingSink>();
};

class Invariance : public testing::TestWithParam<Setup> {};

// Each request alone in an engine with room for all of it, its prompt in as few chunks as can be.
TEST_P(Invariance, EveryBitIsThatOfTheRequestAlone) {
  static const auto* const alone =
      new auto(Runner({.name = "alone", .prefix_cache = false, .one_by_one = true}).Run());
  for (const auto& [handle, bits] : Runner(GetParam()).Run()) {
    EXPECT_EQ(bits, alone->at(handle)) << "request " << handle;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Engine, Invariance,
    testing::Values(
        Setup{.name = "BatchOf16"}, Setup{.name = "TwoThreads", .threads = 2},
        Setup{.name = "ChunksOf16", .max_batch_tokens = 32},
        Setup{.name = "ChunksOf16OnTwoThreads", .threads = 2, .max_batch_tokens = 32},
        Setup{.name = "ChunksOf64", .threads = 2, .max_batch_tokens = 80},
        Setup{.name = "Preempted", .blocks = 14, .lookahead = 1, .preempts = true},
        Setup{.name = "PreemptedWithoutPrefixCache",
              .threads = 2,
              .max_batch_tokens = 48,
              .blocks = 14,
              .lookahead = 1,
              .prefix_cache = false,
              .preempts = true},
        Setup{.name = "BlocksOfOthers",
              .blocks = 10,
              .prefix_cache = false,
              .one_by_one = true,
              .rounds = 2},
        Setup{
            .name = "PrefixHits", .threads = 2, .max_batch_tokens = 64, .rounds = 2, .hits = true},
        Setup{.name = "PrefixHitsOneByOne", .one_by_one = true, .rounds = 2, .hits = true}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tandem
