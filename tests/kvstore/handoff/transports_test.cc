#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kvstore/transport/shm.h"
#include "kvstore/transport/wire.h"
#include "tests/kvstore/handoff/handoff_test.h"
#include "tests/support/scratch_folder.h"

// Which transport a link takes where both sides have several.
namespace tandem {
namespace {

using Code = absl::StatusCode;

// Counts what the sender asked for on its way to a link.
class CountingDoor final : public ControlDoor {
 public:
  explicit CountingDoor(ControlDoor* inner) : inner_(inner) {}
  std::vector<std::vector<std::string>> offers;  // the transports of each Link

  absl::StatusOr<LinkGrant> Link(const std::string& peer, const LinkOffer& offer,
                                 absl::Time deadline) override {
    offers.push_back(offer.transports);
    return inner_->Link(peer, offer, deadline);
  }
  absl::StatusOr<std::shared_ptr<ControlChannel<ToReceiver>>> Open(const std::string& peer,
                                                                   const LinkName& link,
                                                                   ControlEvents events,
                                                                   absl::Time deadline) override {
    return inner_->Open(peer, link, std::move(events), deadline);
  }

 private:
  ControlDoor* const inner_;
};

class TransportChoice : public HandoffTest {
 protected:
  ~TransportChoice() override { Stop(); }

  absl::StatusOr<SenderLink> Link(const Transports& here, const Transports& there) {
    receiver_ = std::make_unique<Receiver>(&decode_, there, receiver_options_);
    door_.Register(kDecode, receiver_.get());
    const LinkOffer offer{
        .incarnation = NewIncarnation(), .layout = prefill_.layout(), .transports = NamesOf(here)};
    const ControlEvents events{[](const LinkName&, const ToSender&) {},
                               [](const LinkName&, const absl::Status&) {}};
    return EstablishLink(kDecode, offer, &counting_, here, events, In(absl::Seconds(10)));
  }
  static std::unique_ptr<Transport> Shm(const ScratchFolder& folder) {
    return *MakeShmTransport({.directory = folder.path()});
  }

  const ScratchFolder folder_, other_folder_;
  const std::unique_ptr<Transport> shm_here_ = Shm(folder_), shm_there_ = Shm(folder_),
                                   shm_elsewhere_ = Shm(other_folder_),
                                   tcp_here_ = *MakeTcpTransport({}),
                                   tcp_there_ = *MakeTcpTransport({});
  CountingDoor counting_{&door_};
};

TEST_F(TransportChoice, SharedMemoryIsTakenWhereBothSidesCan) {
  ASSERT_OK_AND_ASSIGN(const SenderLink link, Link({shm_here_.get(), tcp_here_.get()},
                                                   {shm_there_.get(), tcp_there_.get()}));
  EXPECT_EQ(link.push_transport, "shm");
  EXPECT_THAT(link.passed_over, IsOk());
  EXPECT_EQ(counting_.offers.size(), 1u);
}

TEST_F(TransportChoice, APeerWhoseFolderIsAnotherIsReachedByTcpInTheSameTry) {
  ASSERT_OK_AND_ASSIGN(const SenderLink link, Link({shm_elsewhere_.get(), tcp_here_.get()},
                                                   {shm_there_.get(), tcp_there_.get()}));
  EXPECT_EQ(link.push_transport, "tcp");
  EXPECT_THAT(link.passed_over, StatusIs(Code::kUnavailable, testing::HasSubstr("shm: ")));
  EXPECT_THAT(counting_.offers, testing::ElementsAre(testing::ElementsAre("shm", "tcp"),
                                                     testing::ElementsAre("tcp")));
  EXPECT_EQ(receiver_->counters().links, 1u);
}

TEST_F(TransportChoice, ASideWithoutSharedMemoryIsReachedByTcpAtOnce) {
  ASSERT_OK_AND_ASSIGN(const SenderLink link,
                       Link({shm_here_.get(), tcp_here_.get()}, {tcp_there_.get()}));
  EXPECT_EQ(link.push_transport, "tcp");
  EXPECT_THAT(link.passed_over, IsOk());
  EXPECT_EQ(counting_.offers.size(), 1u);
}

TEST_F(TransportChoice, ATcpThatCannotBeReachedIsNotPassedOver) {
  auto rerouted = std::make_unique<ReroutedTransport>(*MakeTcpTransport({}));
  rerouted->set_detour((*MakeTcpTransport({}))->address());  // of a transport that is gone again
  EXPECT_THAT(Link({rerouted.get(), shm_here_.get()}, {shm_there_.get(), tcp_there_.get()}),
              StatusIs(Code::kUnavailable));
  EXPECT_EQ(counting_.offers.size(), 1u);
}

TEST_F(TransportChoice, AWindowIsNoLargerThanItsTransportMakesUseOf) {
  receiver_options_.window_bytes = 1 << 30;
  ASSERT_OK_AND_ASSIGN(const SenderLink link, Link({shm_here_.get()}, {shm_there_.get()}));
  EXPECT_EQ(link.window_bytes, shm_here_->capabilities().best_window_bytes);
}

TEST_F(TransportChoice, NothingInCommonNamesBothSides) {
  EXPECT_THAT(Link({shm_here_.get()}, {tcp_there_.get()}),
              StatusIs(Code::kFailedPrecondition,
                       testing::HasSubstr("no KV transport in common: tcp here, shm at the peer")));
}

// The whole protocol, with the peer in shared memory; and again after the link broke.
class HandoffOverShm : public HandoffTest {
 protected:
  void StartShm() {
    there_ = *MakeShmTransport({.directory = folder_.path()});
    shm_ = *MakeShmTransport({.directory = folder_.path()});
    receiver_ = std::make_unique<Receiver>(&decode_, Transports{there_.get()}, receiver_options_);
    door_.Register(kDecode, receiver_.get());
    sender_ = std::make_unique<Sender>(&prefill_, Transports{shm_.get()}, &door_, sender_options_);
  }
  ~HandoffOverShm() override { Stop(); }

  const ScratchFolder folder_;
  std::unique_ptr<Transport> shm_;
};

TEST_F(HandoffOverShm, KvArrivesAndALinkThatEndedIsMadeAnew) {
  StartShm();
  for (uint32_t round = 0; round < 20; ++round) HandOver({"r", round + 1}, round);
  EXPECT_EQ(sender_->counters().links_made, 1u);
  Handoff named{.key = {"named", 1}};
  OpenAndCompute(named);
  EXPECT_EQ(named.sent.Wait()->transport, "shm");
  EXPECT_EQ(named.received.Wait()->transport, "shm");
  door_.Crash(kDecode);
  door_.Register(kDecode, receiver_.get());
  ASSERT_TRUE(Eventually([this] { return sender_->counters().links_lost == 1; }));
  HandOver({"again", 1}, 77);
  EXPECT_EQ(sender_->counters().links_made, 2u);
  EXPECT_EQ(receiver_->counters().bad_frames, 0u);
}

// A peer that writes to the window while the receiver is about to copy: each block is asked for
// just before its copy, and the copy is checked after.
class MeddledBlocks final : public BlockMemory {
 public:
  explicit MeddledBlocks(std::vector<uint8_t>* window) : window_(window) {}
  const KvLayout& layout() const override { return blocks_.layout(); }
  uint32_t blocks() const override { return blocks_.blocks(); }
  absl::Span<uint8_t> Slice(uint32_t layer, BlockId block) override {
    (*window_)[100] ^= 1;
    return blocks_.Slice(layer, block);
  }
  void Clear(BlockId block) override { blocks_.Clear(block); }
  void Copy(BlockId from, BlockId to) override { blocks_.Copy(from, to); }

 private:
  MemoryBlocks blocks_{SmallLayout(), 4};
  std::vector<uint8_t>* const window_;
};

TEST(Scatter, ALateWriteIntoTheWindowIsNeverCommitted) {
  std::vector<uint8_t> window(SmallLayout().slice_bytes(), 7);
  FrameHeader header;
  header.payload_bytes = window.size();
  header.digest = FrameDigest(header, {window});
  MeddledBlocks memory(&window);
  EXPECT_THAT(ScatterAndVerify(header, window, {BlockId{1}}, &memory), StatusIs(Code::kDataLoss));
}

}  // namespace
}  // namespace tandem
