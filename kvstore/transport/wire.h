#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kvstore/transport/transport.h"

// The bytes of the tcp transport: fixed-size little-endian messages, a table of them in docs/KV.md.
// Pure functions; nothing here allocates by a length that a peer sent.
//   errors  DataLoss for bytes that are no such message: magic, version, type or checksum is wrong,
//           named in the message. The stream cannot be read on after that
namespace tandem::wire {

inline constexpr uint32_t kMagic = 0x464b4454;  // "TDKF"
inline constexpr uint16_t kVersion = 1;

enum class Type : uint16_t { kHello = 1, kWelcome = 2, kFrame = 3, kConsumed = 4 };

// Sender to receiver, first on a connection.
struct Hello {
  LinkName link;
  Bytes16 token{};
};
inline constexpr size_t kHelloBytes = 48;

// Receiver to sender, the answer: anything but `accepted` is followed by a close.
struct Welcome {
  LinkName link;
  bool accepted = false;
};
inline constexpr size_t kWelcomeBytes = 40;

// Receiver to sender: what has been taken out of the landing window since the link began.
struct Consumed {
  uint64_t payload_bytes = 0;
  uint64_t frames = 0;
};
inline constexpr size_t kConsumedBytes = 32;

// Sender to receiver, followed by payload_bytes of payload.
inline constexpr size_t kFrameBytes = 112;

std::array<uint8_t, kHelloBytes> Encode(const Hello& hello);
std::array<uint8_t, kWelcomeBytes> Encode(const Welcome& welcome);
std::array<uint8_t, kConsumedBytes> Encode(const Consumed& consumed);
std::array<uint8_t, kFrameBytes> Encode(const FrameHeader& header);

absl::StatusOr<Hello> DecodeHello(absl::Span<const uint8_t> bytes);
absl::StatusOr<Welcome> DecodeWelcome(absl::Span<const uint8_t> bytes);
absl::StatusOr<Consumed> DecodeConsumed(absl::Span<const uint8_t> bytes);
// `max_payload_bytes` is the landing window's size: a longer payload is refused.
absl::StatusOr<FrameHeader> DecodeFrame(absl::Span<const uint8_t> bytes,
                                        uint64_t max_payload_bytes);

}  // namespace tandem::wire

namespace tandem {

// XXH3-128 over the header's tag, place and payload_bytes, and then `payload`.
Bytes16 FrameDigest(const FrameHeader& header, absl::Span<const absl::Span<const uint8_t>> payload);

// Both take the first bytes of a SHA-256, so that nobody can choose two names that look alike.
Bytes16 RequestDigest(absl::string_view request_id);
uint64_t ShortDigest(absl::string_view text);

}  // namespace tandem
