#include "kvstore/transport/shm.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kvstore/transport/shm_folder.h"
#include "kvstore/transport/shm_window.h"
#include "kvstore/transport/unix_socket.h"
#include "kvstore/transport/wire.h"
#include "tests/support/kv_frames.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/status_matchers.h"

// What is special to shm: the folder, the window, and peers on the other end of the socket that do
// not speak as ours do.
namespace tandem {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Code = absl::StatusCode;

constexpr uint64_t kWindow = 10'000;
constexpr PushLimits kPatient{.stall = absl::Seconds(10)};

size_t FilesIn(const std::string& folder) {
  const std::filesystem::directory_iterator files(folder);
  return static_cast<size_t>(std::distance(begin(files), end(files)));
}

// The sending end of a link, byte by byte: says what a test wants it to.
class RawSender {
 public:
  RawSender(const ShmFolder& folder, const std::string& name, const LinkName& link)
      : link_(link), socket_(*folder.Connect(name)) {}

  absl::Status Say(absl::Span<const uint8_t> bytes) { return WriteAll(socket_, bytes, kPatient); }
  absl::Status Hello(const Bytes16& token) {
    RETURN_IF_ERROR(Say(wire::Encode(wire::Hello{link_, token})));
    std::array<uint8_t, wire::kWelcomeBytes> bytes;
    ASSIGN_OR_RETURN(Socket file, ReadWithDescriptor(socket_, absl::MakeSpan(bytes), kPatient));
    ASSIGN_OR_RETURN(ShmWindow window, ShmWindow::Open(std::move(file), kWindow));
    window_ = std::make_unique<ShmWindow>(std::move(window));
    return absl::OkStatus();
  }
  // Puts the payload where the next frame's belongs; its header.
  FrameHeader Put(absl::Span<const uint8_t> payload) {
    const absl::Span<uint8_t> room = window_->Room(written_, payload.size());
    std::copy(payload.begin(), payload.end(), room.begin());
    written_ += payload.size();
    FrameHeader header = HeaderFor(link_, payload);
    header.sequence = frames_++;
    return header;
  }
  const ShmWindow& window() const { return *window_; }
  void Close() { socket_ = Socket(); }

 private:
  const LinkName link_;
  Socket socket_;
  std::unique_ptr<ShmWindow> window_;
  uint64_t written_ = 0, frames_ = 0;
};

class ShmFaults : public testing::Test {
 protected:
  // A new epoch, and a raw sender that has not said hello yet.
  RawSender Admit(FrameSink* sink) {
    receiver_->Retire(link_);
    link_ = {1, link_.epoch + 1};
    EXPECT_THAT(receiver_->Admit({link_, token_, kWindow}, sink), IsOk());
    return RawSender(folder_, receiver_->address(), link_);
  }

  const Bytes16 token_ = {4, 5, 6};
  const std::vector<uint8_t> payload_ = RandomBytes(500, 1);
  const ScratchFolder scratch_;
  const ShmFolder folder_ = *ShmFolder::Open(scratch_.path());
  std::unique_ptr<Transport> receiver_ =
      *MakeShmTransport({.directory = scratch_.path(),
                         .handshake_timeout = absl::Milliseconds(200),
                         .stall_timeout = absl::Milliseconds(200)});
  LinkName link_{1, 0};
};

TEST_F(ShmFaults, ABitTurnedInAHelloOrAHeaderIsNeverTakenForData) {
  for (size_t at = 0; at < wire::kHelloBytes; ++at) {
    SCOPED_TRACE(at);
    RecordingSink sink;
    RawSender sender = Admit(&sink);
    auto hello = wire::Encode(wire::Hello{link_, token_});
    hello[at] ^= 8;
    ASSERT_THAT(sender.Say(hello), IsOk());
    EXPECT_THAT(sender.Hello(token_), Not(IsOk()));
    EXPECT_EQ(sink.frames() + sink.closes(), 0u);
    receiver_->Retire(link_);
  }
  for (size_t at = 0; at < wire::kFrameBytes; ++at) {
    SCOPED_TRACE(at);
    RecordingSink sink;
    RawSender sender = Admit(&sink);
    ASSERT_THAT(sender.Hello(token_), IsOk());
    auto header = wire::Encode(sender.Put(payload_));
    header[at] ^= 8;
    ASSERT_THAT(sender.Say(header), IsOk());
    EXPECT_THAT(sink.WaitForClose(), StatusIs(Code::kDataLoss));
    EXPECT_EQ(sink.frames(), 0u);
    receiver_->Retire(link_);
  }
}

TEST_F(ShmFaults, APeerThatDiesAtAnyStepIsSeen) {
  for (size_t bytes = 0; bytes < wire::kHelloBytes; bytes += 7) {
    SCOPED_TRACE(bytes);
    RecordingSink sink;
    RawSender sender = Admit(&sink);
    const auto hello = wire::Encode(wire::Hello{link_, token_});
    ASSERT_THAT(sender.Say(absl::MakeConstSpan(hello).first(bytes)), IsOk());
    sender.Close();
    receiver_->Retire(link_);
    EXPECT_EQ(sink.frames() + sink.closes(), 0u);
  }
  for (size_t bytes = 0; bytes < wire::kFrameBytes; bytes += 7) {
    SCOPED_TRACE(bytes);
    RecordingSink sink;
    RawSender sender = Admit(&sink);
    ASSERT_THAT(sender.Hello(token_), IsOk());
    ASSERT_THAT(sender.Say(wire::Encode(sender.Put(payload_))), IsOk());
    const auto header = wire::Encode(sender.Put(payload_));
    ASSERT_THAT(sender.Say(absl::MakeConstSpan(header).first(bytes)), IsOk());
    sender.Close();
    EXPECT_THAT(sink.WaitForClose(), StatusIs(Code::kUnavailable));
    EXPECT_EQ(sink.frames(), 1u);
    receiver_->Retire(link_);
  }
}

TEST_F(ShmFaults, ShortWritesChangeNothing) {
  RecordingSink sink;
  RawSender sender = Admit(&sink);
  ASSERT_THAT(sender.Hello(token_), IsOk());
  for (int frame = 0; frame < 30; ++frame) {  // twice round the window
    const auto header = wire::Encode(sender.Put(payload_));
    for (size_t at = 0; at < header.size(); at += 7) {
      ASSERT_THAT(sender.Say(absl::MakeConstSpan(header).subspan(at, 7)), IsOk());
    }
    ASSERT_EQ(sink.WaitForFrames(frame + 1).size(), frame + 1u);
  }
  for (const auto& record : sink.WaitForFrames(30)) {
    EXPECT_TRUE(record.intact && record.payload == payload_);
  }
  receiver_->Retire(link_);
}

TEST_F(ShmFaults, StallsInAHelloOrAHeaderEnd) {
  RecordingSink sink;
  RawSender silent = Admit(&sink);
  EXPECT_THAT(silent.Hello(token_), IsOk());
  const auto header = wire::Encode(silent.Put(payload_));
  ASSERT_THAT(silent.Say(absl::MakeConstSpan(header).first(50)), IsOk());
  EXPECT_THAT(sink.WaitForClose(), StatusIs(Code::kDeadlineExceeded, HasSubstr("no progress")));

  const Socket stranger = *folder_.Connect(receiver_->address());
  std::vector<uint8_t> byte(1);
  EXPECT_THAT(ReadAll(stranger, absl::MakeSpan(byte), kPatient), StatusIs(Code::kUnavailable))
      << "closed at the handshake timeout, without a word";
  receiver_->Retire(link_);
}

TEST_F(ShmFaults, FramesOutOfOrderOrOfAnotherEpochOrTooLargeEndTheLink) {
  const std::vector<std::function<void(FrameHeader*)>> wrongs = {
      [](FrameHeader* header) { header->sequence = 1; },
      [](FrameHeader* header) { header->tag.link.epoch += 1; },
      [](FrameHeader* header) { header->payload_bytes = kWindow + 1; },
      [](FrameHeader* header) { header->payload_bytes = uint64_t{0} - 1; },
      [](FrameHeader* header) { header->payload_bytes = 0; }};
  for (const auto& spoil : wrongs) {
    RecordingSink sink;
    RawSender sender = Admit(&sink);
    ASSERT_THAT(sender.Hello(token_), IsOk());
    FrameHeader header = sender.Put(payload_);
    spoil(&header);
    ASSERT_THAT(sender.Say(wire::Encode(header)), IsOk());
    EXPECT_THAT(sink.WaitForClose(), StatusIs(Code::kDataLoss));
    EXPECT_EQ(sink.frames(), 0u);
    receiver_->Retire(link_);
  }
}

// Turns a bit of the window after a frame was delivered and before it is copied.
class LateSink final : public FrameSink {
 public:
  explicit LateSink(RecordingSink* inner) : inner_(inner) {}
  void TurnOnce(uint8_t* at) { at_ = at; }

  void OnFrame(const FrameHeader& header, absl::Span<const uint8_t> landed) override {
    if (uint8_t* at = at_.exchange(nullptr)) *at ^= 1;
    inner_->OnFrame(header, landed);
  }
  void OnLinkClosed(const LinkName& link, const absl::Status& why) override {
    inner_->OnLinkClosed(link, why);
  }

 private:
  RecordingSink* const inner_;
  std::atomic<uint8_t*> at_{nullptr};
};

TEST_F(ShmFaults, AWriteIntoADeliveredWindowIsFoundInTheCopy) {
  RecordingSink records;
  LateSink sink(&records);
  RawSender sender = Admit(&sink);
  ASSERT_THAT(sender.Hello(token_), IsOk());
  sink.TurnOnce(&sender.window().Room(0, 500)[77]);
  ASSERT_THAT(sender.Say(wire::Encode(sender.Put(payload_))), IsOk());
  ASSERT_EQ(records.WaitForFrames(1).size(), 1u);
  ASSERT_THAT(sender.Say(wire::Encode(sender.Put(payload_))), IsOk());
  const auto got = records.WaitForFrames(2);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_FALSE(got[0].intact);
  EXPECT_TRUE(got[1].intact) << "the link lives on: whose frame it was is for the sink to end";
  receiver_->Retire(link_);
}

TEST_F(ShmFaults, AWindowThatWasRetiredTakesNobodysMemory) {
  RecordingSink sink;
  RawSender sender = Admit(&sink);
  ASSERT_THAT(sender.Hello(token_), IsOk());
  receiver_->Retire(link_);
  const absl::Span<uint8_t> room = sender.window().Room(0, kWindow);
  std::fill(room.begin(), room.end(), 7);  // no fault: it goes nowhere
  EXPECT_EQ(sink.frames() + sink.closes(), 0u);
}

// The receiving end of a link that answers a hello as a test wants.
absl::Status ConnectTo(const std::function<void(const Socket&, const wire::Hello&)>& answer) {
  const ScratchFolder scratch;
  const ShmFolder folder = *ShmFolder::Open(scratch.path());
  const auto sender = *MakeShmTransport({.directory = scratch.path()});
  const ShmFolder::Listener listener = *folder.Listen();  // later: it looks for dead sockets
  std::thread peer([&] {
    EXPECT_THAT(listener.socket.Wait(POLLIN, kPatient), IsOk());
    const Socket socket(accept4(listener.socket.fd(), nullptr, nullptr, SOCK_NONBLOCK));
    std::array<uint8_t, wire::kHelloBytes> bytes;
    EXPECT_THAT(ReadAll(socket, absl::MakeSpan(bytes), kPatient), IsOk());
    answer(socket, *wire::DecodeHello(bytes));
  });
  const auto push =
      sender->Connect({{1, 1}, listener.name, {}, kWindow}, RealClock()->Now() + absl::Seconds(10));
  peer.join();
  return push.status();
}

absl::Status Welcome(const Socket& socket, const wire::Hello& hello, int descriptor) {
  const auto welcome = wire::Encode(wire::Welcome{hello.link, true});
  return descriptor < 0 ? WriteAll(socket, welcome, kPatient)
                        : WriteWithDescriptor(socket, welcome, descriptor, kPatient);
}

TEST(ShmSender, AReceiverWithoutAProperWindowIsRefused) {
  EXPECT_THAT(ConnectTo([](const Socket&, const wire::Hello&) {}), StatusIs(Code::kUnavailable));
  EXPECT_THAT(ConnectTo([](const Socket& socket, const wire::Hello& hello) {
                EXPECT_THAT(Welcome(socket, hello, -1), IsOk());
              }),
              StatusIs(Code::kDataLoss, HasSubstr("no memory file")));
  EXPECT_THAT(ConnectTo([](const Socket& socket, const wire::Hello& hello) {
                EXPECT_THAT(Welcome(socket, hello, socket.fd()), IsOk());
              }),
              StatusIs(Code::kDataLoss, HasSubstr("no memory file")));
  EXPECT_THAT(ConnectTo([](const Socket& socket, const wire::Hello& hello) {
                const Socket unsealed(memfd_create("test", MFD_ALLOW_SEALING));
                EXPECT_EQ(ftruncate(unsealed.fd(), 12'288), 0);
                EXPECT_THAT(Welcome(socket, hello, unsealed.fd()), IsOk());
              }),
              StatusIs(Code::kDataLoss, HasSubstr("sealed")));
  EXPECT_THAT(ConnectTo([](const Socket& socket, const wire::Hello& hello) {
                const ShmWindow small = *ShmWindow::Create(100);
                EXPECT_THAT(Welcome(socket, hello, small.file().fd()), IsOk());
              }),
              StatusIs(Code::kDataLoss, HasSubstr("bytes, want")));
  EXPECT_THAT(ConnectTo([](const Socket& socket, const wire::Hello& hello) {
                const ShmWindow window = *ShmWindow::Create(kWindow);
                EXPECT_THAT(Welcome(socket, hello, window.file().fd()), IsOk());
              }),
              IsOk());
}

TEST(ShmWindowFile, NobodyCanChangeItsSize) {
  const ShmWindow window = *ShmWindow::Create(kWindow);
  EXPECT_NE(ftruncate(window.file().fd(), 0), 0);
  EXPECT_NE(ftruncate(window.file().fd(), 1 << 20), 0);
  EXPECT_NE(fcntl(window.file().fd(), F_ADD_SEALS, F_SEAL_WRITE), 0);
}

TEST(ShmWindowFile, AFrameAcrossTheEndOfTheRingIsOneSpan) {
  const ShmWindow here = *ShmWindow::Create(kWindow);
  const ShmWindow there = *ShmWindow::Open(Socket(dup(here.file().fd())), kWindow);
  const std::vector<uint8_t> bytes = RandomBytes(kWindow, 1);
  for (const uint64_t position : {0u, 1u, 5'000u, 12'287u, 12'288u, 1'000'001u}) {
    const absl::Span<uint8_t> room = there.Room(position, kWindow);
    std::copy(bytes.begin(), bytes.end(), room.begin());
    EXPECT_EQ(here.Landed(position, kWindow), absl::MakeConstSpan(bytes)) << position;
  }
}

TEST(ShmFolderFiles, TheSocketIsTheUsersAloneAndGoesWithTheTransport) {
  const ScratchFolder scratch;
  auto transport = *MakeShmTransport({.directory = scratch.path()});
  struct stat found{};
  ASSERT_EQ(stat((scratch.path() + "/" + transport->address()).c_str(), &found), 0);
  EXPECT_TRUE(S_ISSOCK(found.st_mode));
  EXPECT_EQ(found.st_mode & 0777, 0600u);
  transport.reset();
  EXPECT_EQ(FilesIn(scratch.path()), 0u);
}

TEST(ShmFolderFiles, WhatDeadProcessesLeftIsRemovedAndNothingElse) {
  const ScratchFolder scratch;
  const ShmFolder folder = *ShmFolder::Open(scratch.path());
  (void)*folder.Listen();  // its process "dies" here
  const ShmFolder::Listener alive = *folder.Listen();
  std::ofstream(scratch.path() + "/kv-notes.sock") << "somebody's file";
  ASSERT_EQ(FilesIn(scratch.path()), 3u);
  const auto transport = *MakeShmTransport({.directory = scratch.path()});
  EXPECT_EQ(FilesIn(scratch.path()), 3u) << "one left, one came";
  EXPECT_THAT(folder.Connect(alive.name), IsOk());
}

TEST(ShmFolderFiles, ANameIsNeverAPath) {
  const ScratchFolder scratch;
  const ShmFolder folder = *ShmFolder::Open(scratch.path());
  for (const std::string bad :
       {"", "..", "/run/docker.sock", "../kv-0123456789abcdef.sock", "kv-0123456789abcdef.sock/",
        "kv-0123456789abcdeg.sock", "127.0.0.1:9101"}) {
    EXPECT_THAT(folder.Connect(bad), StatusIs(Code::kInvalidArgument, HasSubstr("no KV socket")));
  }
  EXPECT_THAT(folder.Connect("kv-0123456789abcdef.sock"), StatusIs(Code::kUnavailable));
}

TEST(ShmFolderFiles, AFolderThatCannotBeUsedIsNamed) {
  const ScratchFolder scratch;
  const std::string file = scratch.path() + "/file";
  std::ofstream(file) << "no folder";
  EXPECT_THAT(MakeShmTransport({.directory = file}),
              StatusIs(Code::kInvalidArgument, HasSubstr("is not a folder")));
  EXPECT_THAT(MakeShmTransport({.directory = scratch.path() + "/no/such"}),
              StatusIs(Code::kInvalidArgument, HasSubstr("/no/such")));
  const std::string deep = scratch.path() + "/" + std::string(80, 'd');
  EXPECT_THAT(MakeShmTransport({.directory = deep}),
              StatusIs(Code::kInvalidArgument, HasSubstr("the system takes")));
}

TEST(ShmUser, AProcessOfAnotherUserIsRefused) {
  const ScratchFolder scratch;
  const ShmFolder folder = *ShmFolder::Open(scratch.path());
  const ShmFolder::Listener listener = *folder.Listen();
  const Socket socket = *folder.Connect(listener.name);
  EXPECT_THAT(CheckPeerUser(socket, geteuid()), IsOk());
  EXPECT_THAT(CheckPeerUser(socket, geteuid() + 1), StatusIs(Code::kPermissionDenied));
}

}  // namespace
}  // namespace tandem
