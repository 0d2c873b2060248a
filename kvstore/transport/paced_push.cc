#include "kvstore/transport/paced_push.h"

#include <poll.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {
namespace {

constexpr uint64_t kFramesBetweenLooks = 16;  // so that unread Consumed messages never pile up

}  // namespace

PacedPush::PacedPush(std::unique_ptr<const Socket> socket, std::unique_ptr<Stream> stream,
                     uint64_t window_bytes)
    : socket_(std::move(socket)), stream_(std::move(stream)), window_bytes_(window_bytes) {}

absl::Status PacedPush::Push(const FrameHeader& header,
                             absl::Span<const absl::Span<const uint8_t>> payload,
                             const PushLimits& limits) {
  uint64_t bytes = 0;
  for (const absl::Span<const uint8_t> part : payload) bytes += part.size();
  if (bytes == 0 || bytes > window_bytes_ || bytes != header.payload_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("KV frame of ", bytes, " bytes: the header says ", header.payload_bytes,
                     ", the landing window takes 1 to ", window_bytes_));
  }
  if (broken_) return absl::UnavailableError("the KV connection is broken");
  absl::Status pushed = WaitForRoom(bytes, limits);
  if (absl::IsCancelled(pushed)) return pushed;  // nothing left: the stream is where it was
  if (pushed.ok()) {
    FrameHeader numbered = header;
    numbered.sequence = frames_++;
    in_flight_ += bytes;
    pushed = Write(wire::Encode(numbered), payload, limits);
  }
  if (!pushed.ok()) Break();
  return Annotate(pushed, "push KV");
}

void PacedPush::Break() {
  broken_ = true;
  socket_->ShutDown();
}

absl::Status PacedPush::WaitForRoom(uint64_t bytes, const PushLimits& limits) {
  bool look = frames_ % kFramesBetweenLooks == 0;
  while (look || in_flight_ + bytes > window_bytes_) {
    ASSIGN_OR_RETURN(const size_t got,
                     stream_->ReadSome(absl::MakeSpan(consumed_).subspan(consumed_bytes_)));
    consumed_bytes_ += got;
    if (consumed_bytes_ == consumed_.size()) {
      RETURN_IF_ERROR(TakeConsumed());
    } else if (got == 0 && look) {
      look = false;
    } else if (got == 0) {
      RETURN_IF_ERROR(stream_->Wait(POLLIN, limits));
    }
  }
  return absl::OkStatus();
}

absl::Status PacedPush::TakeConsumed() {
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

}  // namespace tandem
