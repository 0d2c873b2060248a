#include "kvstore/transport/tcp_push.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/address.h"
#include "base/status.h"
#include "kvstore/transport/lane_push.h"
#include "kvstore/transport/paced_push.h"
#include "kvstore/transport/tls_stream.h"
#include "kvstore/transport/wire.h"

namespace tandem {
namespace {

constexpr size_t kWriteBytes = 256 << 10;  // one sendmsg; bigger ones fall out of the L2 cache
constexpr size_t kWriteParts = 64;         // slices in one sendmsg

class TcpPush final : public PacedPush {
 public:
  using PacedPush::PacedPush;

 private:
  absl::Status Write(const HeaderBytes& header, absl::Span<const absl::Span<const uint8_t>> payload,
                     const PushLimits& limits) override {
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
      ASSIGN_OR_RETURN(size_t sent, stream().WriteSome({parts.data(), count}));
      if (sent == 0) {
        RETURN_IF_ERROR(stream().Wait(POLLOUT, limits, limits.cancel_grace));
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
};

// Whose certificate the peer has to show, where no names are configured: that of the host where the
// link was agreed, or of the address that it gave.
std::vector<std::string> NamesOf(const TransportEndpoint& peer, const Certificates& tls) {
  if (!tls.settings().peer_names.empty()) return tls.settings().peer_names;
  if (!peer.host.empty()) return {peer.host};
  const absl::StatusOr<HostPort> address = ParseHostPort(peer.address);
  return {address.ok() ? address->host : peer.address};
}

absl::StatusOr<std::unique_ptr<Stream>> OpenStream(const Socket& socket,
                                                   const TransportEndpoint& peer,
                                                   const Certificates* tls, absl::Time deadline) {
  if (tls == nullptr) return MakePlainStream(socket);
  return ConnectTls(socket, *tls, NamesOf(peer, *tls), deadline);
}

absl::Status SayHello(const TransportEndpoint& peer, bool encrypted, absl::Time deadline,
                      Stream* stream) {
  const PushLimits limits{.stall = absl::InfiniteDuration(), .deadline = deadline};
  RETURN_IF_ERROR(WriteAll(*stream, wire::Encode(wire::Hello{peer.link, peer.token}), limits));
  std::array<uint8_t, wire::kWelcomeBytes> bytes{};
  const absl::Status read = ReadAll(*stream, absl::MakeSpan(bytes), limits);
  if (!read.ok() && !encrypted && bytes[0] == kTlsAlert) {
    return absl::FailedPreconditionError("the peer speaks TLS, and this process does not");
  }
  RETURN_IF_ERROR(read);
  ASSIGN_OR_RETURN(const wire::Welcome welcome, wire::DecodeWelcome(bytes));
  if (welcome.accepted && welcome.link == peer.link) return absl::OkStatus();
  return absl::PermissionDeniedError("the peer does not know this link, epoch or token");
}

absl::StatusOr<std::unique_ptr<PacedPush>> ConnectOne(const TransportEndpoint& peer,
                                                      const SocketAddress& address,
                                                      const Certificates* tls,
                                                      absl::Time deadline) {
  ASSIGN_OR_RETURN(Socket connected, Socket::Connect(address, deadline));
  auto socket = std::make_unique<const Socket>(std::move(connected));
  auto stream = OpenStream(*socket, peer, tls, deadline);
  const absl::Status said =
      stream.ok() ? SayHello(peer, tls != nullptr, deadline, stream->get()) : stream.status();
  if (!said.ok()) return Annotate(said, absl::StrCat("KV hello to ", peer.address));
  return std::make_unique<TcpPush>(std::move(socket), *std::move(stream), peer.window_bytes);
}

}  // namespace

absl::StatusOr<std::unique_ptr<PushConnection>> ConnectTcpPush(const TransportEndpoint& peer,
                                                               const SocketAddress& address,
                                                               const Certificates* tls,
                                                               absl::Time deadline) {
  std::vector<std::unique_ptr<PacedPush>> lanes;
  while (lanes.size() < peer.connections) {
    ASSIGN_OR_RETURN(lanes.emplace_back(), ConnectOne(peer, address, tls, deadline));
  }
  if (lanes.size() == 1) return std::move(lanes.front());
  return std::make_unique<LanePush>(std::move(lanes));
}

}  // namespace tandem
