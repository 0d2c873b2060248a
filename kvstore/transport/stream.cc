#include "kvstore/transport/stream.h"

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

std::unique_ptr<Stream> MakePlainStream(const Socket& socket) {
  return std::make_unique<PlainStream>(socket);
}

}  // namespace tandem
