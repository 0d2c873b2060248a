#include "kvstore/transport/tcp_push.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kvstore/transport/wire.h"

namespace tandem {
namespace {

constexpr size_t kWriteBytes = 256 << 10;     // one sendmsg; bigger ones fall out of the L2 cache
constexpr size_t kWriteParts = 64;            // slices in one sendmsg
constexpr uint64_t kFramesBetweenLooks = 16;  // so that unread Consumed messages never pile up

class TcpPush final : public PushConnection {
 public:
  TcpPush(Socket socket, uint64_t window_bytes)
      : socket_(std::move(socket)), window_bytes_(window_bytes) {}

  absl::Status Push(const FrameHeader& header, absl::Span<const absl::Span<const uint8_t>> payload,
                    const PushLimits& limits) override {
    uint64_t bytes = 0;
    for (const absl::Span<const uint8_t> part : payload) bytes += part.size();
    if (bytes == 0 || bytes > window_bytes_ || bytes != header.payload_bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("KV frame of ", bytes, " bytes: the header says ", header.payload_bytes,
                       ", the landing window takes 1 to ", window_bytes_));
    }
    if (broken_) return absl::UnavailableError("the KV connection is broken");
    absl::Status room = WaitForRoom(bytes, limits);
    if (absl::IsCancelled(room)) return room;  // nothing left: the stream is where it was
    if (room.ok()) {
      FrameHeader numbered = header;
      numbered.sequence = frames_++;
      in_flight_ += bytes;
      room = Write(wire::Encode(numbered), payload, limits);
    }
    if (!room.ok()) Break();
    return Annotate(room, "push KV");
  }

  void Break() override {
    broken_ = true;
    socket_.ShutDown();
  }
  bool broken() const override { return broken_; }

 private:
  // Takes in what the receiver says it has consumed, until `bytes` fit into its window.
  absl::Status WaitForRoom(uint64_t bytes, const PushLimits& limits) {
    bool look = frames_ % kFramesBetweenLooks == 0;
    while (look || in_flight_ + bytes > window_bytes_) {
      ASSIGN_OR_RETURN(const size_t got,
                       socket_.ReadSome(absl::MakeSpan(consumed_).subspan(consumed_bytes_)));
      consumed_bytes_ += got;
      if (consumed_bytes_ == consumed_.size()) {
        RETURN_IF_ERROR(TakeConsumed());
      } else if (got == 0 && look) {
        look = false;
      } else if (got == 0) {
        RETURN_IF_ERROR(socket_.Wait(POLLIN, limits));
      }
    }
    return absl::OkStatus();
  }

  absl::Status TakeConsumed() {
    consumed_bytes_ = 0;
    ASSIGN_OR_RETURN(const wire::Consumed now, wire::DecodeConsumed(consumed_));
    const uint64_t newly = now.payload_bytes - acknowledged_;
    if (now.payload_bytes < acknowledged_ || newly > in_flight_ || now.frames > frames_) {
      return absl::DataLossError("the peer says it consumed more KV than was sent");
    }
    acknowledged_ = now.payload_bytes;
    in_flight_ -= newly;
    return absl::OkStatus();
  }

  absl::Status Write(const std::array<uint8_t, wire::kFrameBytes>& header,
                     absl::Span<const absl::Span<const uint8_t>> payload,
                     const PushLimits& limits) {
    size_t part = 0, offset = 0;              // next payload byte
    absl::Span<const uint8_t> head = header;  // what is left of it
    while (!head.empty() || part < payload.size()) {
      std::array<iovec, kWriteParts> parts;
      size_t count = 0, bytes = head.size();
      if (!head.empty()) parts[count++] = {const_cast<uint8_t*>(head.data()), head.size()};
      for (size_t i = part, from = offset;
           i < payload.size() && count < kWriteParts && bytes < kWriteBytes; ++i, from = 0) {
        const size_t size = std::min(payload[i].size() - from, kWriteBytes + header.size() - bytes);
        parts[count++] = {const_cast<uint8_t*>(payload[i].data()) + from, size};
        bytes += size;
      }
      ASSIGN_OR_RETURN(size_t sent, socket_.WriteSome({parts.data(), count}));
      if (sent == 0) {
        RETURN_IF_ERROR(socket_.Wait(POLLOUT, limits, limits.cancel_grace));
      }
      const size_t of_head = std::min(sent, head.size());
      head.remove_prefix(of_head);
      sent -= of_head;
      while (part < payload.size() && (sent > 0 || payload[part].size() == offset)) {
        const size_t step = std::min(sent, payload[part].size() - offset);
        offset += step;
        sent -= step;
        if (offset < payload[part].size()) break;
        ++part;
        offset = 0;
      }
    }
    return absl::OkStatus();
  }

  const Socket socket_;
  const uint64_t window_bytes_;
  std::atomic<bool> broken_{false};
  uint64_t frames_ = 0;        // pushed
  uint64_t in_flight_ = 0;     // payload bytes pushed and not known to be consumed
  uint64_t acknowledged_ = 0;  // payload bytes consumed, as last heard
  std::array<uint8_t, wire::kConsumedBytes> consumed_{};  // a message that is arriving
  size_t consumed_bytes_ = 0;                             // of it
};

}  // namespace

absl::StatusOr<std::unique_ptr<PushConnection>> ConnectTcpPush(const TransportEndpoint& peer,
                                                               const SocketAddress& address,
                                                               absl::Time deadline) {
  ASSIGN_OR_RETURN(Socket socket, Socket::Connect(address, deadline));
  const PushLimits limits{.stall = absl::InfiniteDuration(), .deadline = deadline};
  const auto say = [&]() -> absl::Status {
    RETURN_IF_ERROR(socket.WriteAll(wire::Encode(wire::Hello{peer.link, peer.token}), limits));
    std::array<uint8_t, wire::kWelcomeBytes> bytes;
    RETURN_IF_ERROR(socket.ReadAll(absl::MakeSpan(bytes), limits));
    ASSIGN_OR_RETURN(const wire::Welcome welcome, wire::DecodeWelcome(bytes));
    if (welcome.accepted && welcome.link == peer.link) return absl::OkStatus();
    return absl::PermissionDeniedError("the peer does not know this link, epoch or token");
  };
  if (absl::Status said = say(); !said.ok()) {
    return Annotate(said, absl::StrCat("KV hello to ", peer.address));
  }
  return std::make_unique<TcpPush>(std::move(socket), peer.window_bytes);
}

}  // namespace tandem
