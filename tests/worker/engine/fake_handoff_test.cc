#include "tests/worker/engine/fake_handoff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/status_matchers.h"
#include "tests/worker/engine/harness.h"

// The fake must catch what it is there to catch.
namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class FakeHandoffTest : public testing::Test {
 protected:
  static constexpr uint32_t kTokens = 20;

  void Write(uint32_t layer, BlockId block, uint8_t byte) {
    const absl::Span<uint8_t> slice = from_.kv()->Slice(layer, block);
    std::fill(slice.begin(), slice.end(), byte);
  }
  void Begin() {
    fake_.Begin(key_, "peer", kTokens, {BlockId{1}, BlockId{2}}, absl::InfiniteFuture(),
                [](const absl::StatusOr<HandoffSent>&) {});
    fake_.Announce(key_, absl::InfiniteFuture(), [] {});
    fake_.Expect(key_, kTokens, {BlockId{5}, BlockId{6}}, 0, absl::InfiniteFuture(),
                 [](const absl::StatusOr<HandoffReceived>&) {});
  }
  void FinishAndDeliver() {
    fake_.Finish(key_, {FirstToken{}});
    fake_.Deliver();
  }

  const HandoffKey key_{"r", 0};
  ToyModel from_{{}}, to_{{}};
  FakeHandoff fake_{from_.kv(), to_.kv()};
};

TEST_F(FakeHandoffTest, DeliversWhatWasThereInTime) {
  Begin();
  for (uint32_t layer = 0; layer < ToyModel::kLayers; ++layer) {
    Write(layer, BlockId{1}, 1);
    fake_.LayerReady(key_, layer, 16);
  }
  for (uint32_t layer = 0; layer < ToyModel::kLayers; ++layer) {
    Write(layer, BlockId{2}, 2);
    fake_.LayerReady(key_, layer, kTokens);
  }
  FinishAndDeliver();
  EXPECT_THAT(fake_.faults, IsEmpty());
  EXPECT_EQ(to_.kv()->Slice(1, BlockId{5})[0], 1);
  EXPECT_EQ(to_.kv()->Slice(1, BlockId{6})[0], 2);
}

TEST_F(FakeHandoffTest, NamesABlockThatWasWrittenAfterItsLayerReady) {
  Begin();
  for (uint32_t layer = 0; layer < ToyModel::kLayers; ++layer) {
    Write(layer, BlockId{2}, 1);
    fake_.LayerReady(key_, layer, kTokens);
    Write(layer, BlockId{2}, layer == 0 ? 1 : 2);
  }
  FinishAndDeliver();
  EXPECT_THAT(fake_.faults, ElementsAre("LayerReady too early: layer 1, block 1"));
  EXPECT_EQ(to_.kv()->Slice(1, BlockId{6})[0], 1) << "a real one would have sent the old bytes";
}

TEST_F(FakeHandoffTest, ASenderThatGivesUpEndsItsReceiverEvenOneThatIsNotThereYet) {
  absl::Status early, late;
  const auto expect = [this](absl::Status* heard) {
    fake_.Announce(key_, absl::InfiniteFuture(), [] {});
    fake_.Expect(key_, kTokens, {BlockId{5}, BlockId{6}}, 0, absl::InfiniteFuture(),
                 [heard](const auto& received) { *heard = received.status(); });
  };
  for (absl::Status* heard : {&early, &late}) {
    fake_.Begin(key_, "peer", kTokens, {BlockId{1}, BlockId{2}}, absl::InfiniteFuture(),
                [](const absl::StatusOr<HandoffSent>&) {});
    if (heard == &early) expect(heard);
    fake_.Abort(key_);
    fake_.Deliver();
    if (heard == &late) expect(heard);
    fake_.Deliver();
    EXPECT_THAT(*heard, StatusIs(absl::StatusCode::kAborted));
  }
  EXPECT_EQ(fake_.open(), 0u);
}

// Between an engine and the fake: says of each chunk that one block more is there.
class HastySender final : public HandoffSender {
 public:
  explicit HastySender(FakeHandoff* fake) : fake_(fake) {}
  void Begin(const HandoffKey& key, const std::string& peer, uint32_t prompt_tokens,
             std::vector<BlockId> blocks, absl::Time deadline, Done done) override {
    prompt_tokens_ = prompt_tokens;
    fake_->Begin(key, peer, prompt_tokens, std::move(blocks), deadline, std::move(done));
  }
  void LayerReady(const HandoffKey& key, uint32_t layer, uint32_t upto) override {
    fake_->LayerReady(key, layer, std::min(upto + 16, prompt_tokens_));
  }
  void Finish(const HandoffKey& key, std::vector<FirstToken> first_tokens) override {
    fake_->Finish(key, std::move(first_tokens));
  }
  void Abort(const HandoffKey& key) override { fake_->Abort(key); }

 private:
  FakeHandoff* const fake_;
  uint32_t prompt_tokens_ = 0;
};

TEST(FakeHandoff, CatchesAnEngineThatIsOneBlockAheadOfItself) {
  CoreHarness prefill, decode;
  FakeHandoff fake(prefill.model.kv(), decode.model.kv());
  HastySender hasty(&fake);
  prefill.Connect(&hasty, nullptr);
  decode.Connect(nullptr, &fake);
  EngineRequest request = ToyRequest(1, 120, 8);
  request.role = Role::kPrefill;
  prefill.Submit(request);
  request.role = Role::kDecode;
  decode.Submit(request);
  for (int i = 0; i < 50; ++i) {
    prefill.Turn();
    decode.Turn();
    fake.Deliver();
  }
  // Of chunks of 16 and of 64 tokens.
  EXPECT_THAT(fake.faults, ElementsAre("LayerReady too early: layer 0, block 1",
                                       "LayerReady too early: layer 0, block 5",
                                       "LayerReady too early: layer 1, block 1",
                                       "LayerReady too early: layer 1, block 5"));
  EXPECT_NE(decode.sink->heard[1].token_ids, ExpectedAnswer(request).token_ids);
}

}  // namespace
}  // namespace tandem
