#include "kvstore/transport/land.h"

#include <poll.h>

#include <array>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status.h"

namespace tandem {
namespace {

constexpr absl::Duration kSoon = absl::Milliseconds(1);

// What has come out of the window, and how much of that the sender knows.
class Consumption {
 public:
  Consumption(Stream* stream, const Landing& landing, const PushLimits& limits)
      : stream_(stream), tell_after_bytes_(landing.window_bytes / 4), limits_(limits) {}

  absl::Status Add(uint64_t payload_bytes) {
    total_.payload_bytes += payload_bytes;
    ++total_.frames;
    return total_.payload_bytes - told_.payload_bytes > tell_after_bytes_ ? Tell()
                                                                          : absl::OkStatus();
  }
  absl::Status Tell() {
    told_ = total_;
    return WriteAll(*stream_, wire::Encode(total_), limits_);
  }
  bool untold() const { return told_.frames != total_.frames; }
  uint64_t frames() const { return total_.frames; }

 private:
  Stream* const stream_;
  const uint64_t tell_after_bytes_;
  const PushLimits limits_;
  wire::Consumed total_, told_;
};

absl::Status CheckBelongs(const FrameHeader& header, const Landing& landing, uint64_t sequence) {
  if (header.tag.link != landing.link) {
    return absl::DataLossError(absl::StrCat("KV frame of link epoch ", header.tag.link.epoch,
                                            " on a connection of epoch ", landing.link.epoch));
  }
  if (header.sequence == sequence) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("KV frame ", header.sequence, " came where ", sequence, " was due"));
}

// Says what was consumed only when the next frame is not on its way: most often it is, and then
// the sender has room anyway. To be called again until there is something to read.
absl::Status WaitForFrame(Stream* stream, Consumption* consumption) {
  if (!consumption->untold()) return stream->Wait(POLLIN, {.stall = absl::InfiniteDuration()});
  const absl::Status soon = stream->Wait(POLLIN, {.stall = kSoon});
  return absl::IsDeadlineExceeded(soon) ? consumption->Tell() : soon;
}

}  // namespace

absl::StatusOr<wire::Hello> ReadHello(Stream* stream, absl::Duration timeout) {
  std::array<uint8_t, wire::kHelloBytes> bytes;
  const PushLimits limits{.stall = timeout, .deadline = RealClock()->Now() + timeout};
  RETURN_IF_ERROR(ReadAll(*stream, absl::MakeSpan(bytes), limits));
  return wire::DecodeHello(bytes);
}

absl::Status LandFrames(Stream* stream, const Landing& landing, absl::Duration stall,
                        const TakePayload& take, FrameSink* sink) {
  const PushLimits limits{.stall = stall};
  Consumption consumption(stream, landing, limits);
  while (true) {
    std::array<uint8_t, wire::kFrameBytes> head;
    ASSIGN_OR_RETURN(const size_t got, stream->ReadSome(absl::MakeSpan(head)));
    if (got == 0) {
      RETURN_IF_ERROR(WaitForFrame(stream, &consumption));
      continue;
    }
    RETURN_IF_ERROR(ReadAll(*stream, absl::MakeSpan(head).subspan(got), limits));
    ASSIGN_OR_RETURN(const FrameHeader header, wire::DecodeFrame(head, landing.window_bytes));
    RETURN_IF_ERROR(CheckBelongs(header, landing, consumption.frames()));
    ASSIGN_OR_RETURN(const absl::Span<const uint8_t> landed, take(header));
    sink->OnFrame(header, landed);
    RETURN_IF_ERROR(consumption.Add(header.payload_bytes));
  }
}

}  // namespace tandem
