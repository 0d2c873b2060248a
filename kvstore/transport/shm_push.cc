#include "kvstore/transport/shm_push.h"

#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kvstore/transport/paced_push.h"
#include "kvstore/transport/shm_window.h"
#include "kvstore/transport/unix_socket.h"
#include "kvstore/transport/wire.h"

namespace tandem {
namespace {

class ShmPush final : public PacedPush {
 public:
  ShmPush(std::unique_ptr<const Socket> socket, std::unique_ptr<Stream> stream, ShmWindow window,
          uint64_t window_bytes)
      : PacedPush(std::move(socket), std::move(stream), window_bytes), window_(std::move(window)) {}

 private:
  // The header is what tells the receiver that the payload is there: the system call that sends it
  // orders the two.
  absl::Status Write(const HeaderBytes& header, absl::Span<const absl::Span<const uint8_t>> payload,
                     const PushLimits& limits) override {
    for (const absl::Span<const uint8_t> part : payload) {
      if (part.empty()) continue;
      std::memcpy(window_.Room(written_, part.size()).data(), part.data(), part.size());
      written_ += part.size();
    }
    return WriteAll(stream(), header, limits);
  }

  const ShmWindow window_;
  uint64_t written_ = 0;  // payload bytes
};

}  // namespace

absl::StatusOr<std::unique_ptr<PushConnection>> OpenShmPush(Socket socket,
                                                            const TransportEndpoint& peer,
                                                            absl::Time deadline) {
  const PushLimits limits{.stall = absl::InfiniteDuration(), .deadline = deadline};
  RETURN_IF_ERROR(WriteAll(socket, wire::Encode(wire::Hello{peer.link, peer.token}), limits));
  std::array<uint8_t, wire::kWelcomeBytes> bytes;
  ASSIGN_OR_RETURN(Socket file, ReadWithDescriptor(socket, absl::MakeSpan(bytes), limits));
  ASSIGN_OR_RETURN(const wire::Welcome welcome, wire::DecodeWelcome(bytes));
  if (!welcome.accepted || welcome.link != peer.link) {
    return absl::PermissionDeniedError("the peer does not know this link, epoch or token");
  }
  ASSIGN_OR_RETURN(ShmWindow window, ShmWindow::Open(std::move(file), peer.window_bytes));
  auto kept = std::make_unique<const Socket>(std::move(socket));
  auto stream = MakePlainStream(*kept);
  return std::make_unique<ShmPush>(std::move(kept), std::move(stream), std::move(window),
                                   peer.window_bytes);
}

}  // namespace tandem
