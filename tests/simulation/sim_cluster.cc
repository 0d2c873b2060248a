#include "tests/simulation/sim_cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/support/byte_text.h"
#include "tests/worker/engine/letters.h"

namespace tandem {
namespace {

using ::testing::IsEmpty;

constexpr uint64_t kMostEvents = 2'000'000;  // a run has some ten thousand

}  // namespace

SimCluster::SimCluster(uint64_t seed, uint64_t one_handoff_fails_in)
    : events_(seed),
      handoffs_(&events_, one_handoff_fails_in),
      metrics_(&registry_),
      guides_(LettersTokenizer(), ToyModel::kVocab, {.threads = false}) {}

SimWorker& SimCluster::AddWorker(SimWorker::Options options) {
  options.number = workers_.size() + 1;
  options.address = absl::StrCat("w", workers_.size());
  options.guides = &guides_;
  workers_.push_back(std::make_unique<SimWorker>(&events_, &handoffs_, std::move(options)));
  workers_.back()->Start();
  return *workers_.back();
}

SimClient& SimCluster::AddClient(SimClient::Options options) {
  clients_.push_back(std::make_shared<SimClient>(&events_, &workers_, ByteText().get(), &metrics_,
                                                 std::move(options)));
  clients_.back()->Start();
  return *clients_.back();
}

bool SimCluster::AtRest() const {
  return std::all_of(clients_.begin(), clients_.end(), [](const auto& c) { return c->ended(); }) &&
         std::all_of(workers_.begin(), workers_.end(), [](const auto& w) { return w->idle(); }) &&
         handoffs_.open() == 0;
}

void SimCluster::Run(size_t clients) {
  while (events_.done() < kMostEvents && !(clients_.size() >= clients && AtRest())) {
    ASSERT_TRUE(events_.RunNext());
  }
  EXPECT_LT(events_.done(), kMostEvents) << "it does not come to an end";
  EXPECT_THAT(handoffs_.faults, IsEmpty());
  EXPECT_EQ(metrics_.token_conflicts.Value(), 0);
  for (const auto& worker : workers_) EXPECT_THAT(worker->faults(), IsEmpty());
  for (const auto& client : clients_) EXPECT_THAT(client->faults, IsEmpty());
}

}  // namespace tandem
