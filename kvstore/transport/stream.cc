#include "kvstore/transport/stream.h"

#include <poll.h>

#include "base/status.h"

namespace tandem {
namespace {

class PlainStream final : public Stream {
 public:
  explicit PlainStream(const Socket& socket) : socket_(socket) {}
  absl::StatusOr<size_t> ReadSome(absl::Span<uint8_t> out) override {
    return socket_.ReadSome(out);
  }
  absl::StatusOr<size_t> WriteSome(absl::Span<const iovec> parts) override {
    return socket_.WriteSome(parts);
  }
  absl::Status Wait(short events, const PushLimits& limits, absl::Duration grace) override {
    return socket_.Wait(events, limits, grace);
  }

 private:
  const Socket& socket_;
};

}  // namespace

absl::Status Stream::ReadAll(absl::Span<uint8_t> out, const PushLimits& limits) {
  while (!out.empty()) {
    ASSIGN_OR_RETURN(const size_t got, ReadSome(out));
    out.remove_prefix(got);
    if (got == 0) {
      RETURN_IF_ERROR(Wait(POLLIN, limits));
    }
  }
  return absl::OkStatus();
}

absl::Status Stream::WriteAll(absl::Span<const uint8_t> bytes, const PushLimits& limits) {
  while (!bytes.empty()) {
    const iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
    ASSIGN_OR_RETURN(const size_t sent, WriteSome({&part, 1}));
    bytes.remove_prefix(sent);
    if (sent == 0) {
      RETURN_IF_ERROR(Wait(POLLOUT, limits, limits.cancel_grace));
    }
  }
  return absl::OkStatus();
}

std::unique_ptr<Stream> MakePlainStream(const Socket& socket) {
  return std::make_unique<PlainStream>(socket);
}

}  // namespace tandem
