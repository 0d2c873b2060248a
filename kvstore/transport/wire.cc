#include "kvstore/transport/wire.h"

#include <openssl/sha.h>
#define XXH_STATIC_LINKING_ONLY  // a hash state that needs no heap
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>  // picks AVX2 or AVX-512 at run time
#endif

#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/check.h"

namespace tandem {
namespace wire {
namespace {

// Appends little-endian fields to a message of a fixed size.
class Writer {
 public:
  explicit Writer(absl::Span<uint8_t> out) : out_(out) {}
  template <typename T>
  Writer& Put(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) {
      out_[at_++] = static_cast<uint8_t>(static_cast<uint64_t>(value) >> (8 * i));
    }
    return *this;
  }
  Writer& Put(const Bytes16& bytes) {
    std::memcpy(out_.subspan(at_, bytes.size()).data(), bytes.data(), bytes.size());
    at_ += bytes.size();
    return *this;
  }
  size_t at() const { return at_; }

 private:
  const absl::Span<uint8_t> out_;
  size_t at_ = 0;
};

class Reader {
 public:
  explicit Reader(absl::Span<const uint8_t> in) : in_(in) {}
  template <typename T>
  T Take() {
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) value |= uint64_t{in_[at_++]} << (8 * i);
    return static_cast<T>(value);
  }
  Bytes16 TakeBytes16() {
    Bytes16 bytes;
    std::memcpy(bytes.data(), in_.subspan(at_, bytes.size()).data(), bytes.size());
    at_ += bytes.size();
    return bytes;
  }

 private:
  const absl::Span<const uint8_t> in_;
  size_t at_ = 0;
};

constexpr size_t kChecksumBytes = 8;  // XXH3-64 over all bytes before it, at the end

Writer& PutPrefix(Writer& out, Type type) {
  return out.Put(kMagic).Put(kVersion).Put(static_cast<uint16_t>(type));
}

void PutChecksum(Writer& out, absl::Span<const uint8_t> message) {
  TANDEM_CHECK(out.at() + kChecksumBytes == message.size(), "a message fills its size");
  out.Put(uint64_t{XXH3_64bits(message.data(), out.at())});
}

// A reader behind the prefix, if size, prefix and checksum are right.
absl::StatusOr<Reader> Open(absl::Span<const uint8_t> bytes, size_t size, Type type) {
  if (bytes.size() != size) {
    return absl::DataLossError(
        absl::StrCat("KV transport message: want ", size, " bytes, got ", bytes.size()));
  }
  Reader in(bytes);
  if (const auto magic = in.Take<uint32_t>(); magic != kMagic) {
    return absl::DataLossError(absl::StrFormat(
        "KV transport message: magic is %08x, want %08x (is this a KV transport port?)", magic,
        kMagic));
  }
  if (const auto version = in.Take<uint16_t>(); version != kVersion) {
    return absl::DataLossError(
        absl::StrCat("KV transport message: version is ", version, ", want ", kVersion));
  }
  if (const auto got = in.Take<uint16_t>(); got != static_cast<uint16_t>(type)) {
    return absl::DataLossError(absl::StrCat("KV transport message: type is ", got, ", want ",
                                            static_cast<uint16_t>(type)));
  }
  Reader end(bytes.subspan(size - kChecksumBytes));
  if (end.Take<uint64_t>() != XXH3_64bits(bytes.data(), size - kChecksumBytes)) {
    return absl::DataLossError("KV transport message: wrong header checksum");
  }
  return in;
}

// What the digest covers of a header: everything that says where the payload belongs.
constexpr size_t kCoveredBytes = 16 + 16 + 4 + 8 + 8 + 12 + 8;

void PutCovered(Writer& out, const FrameHeader& header) {
  out.Put(header.tag.link.link_id).Put(header.tag.link.epoch).Put(header.tag.request);
  out.Put(header.tag.attempt).Put(header.tag.generation).Put(header.tag.kv_abi);
  out.Put(header.place.layer).Put(header.place.first_block).Put(header.place.blocks);
  out.Put(header.payload_bytes);
}

}  // namespace

std::array<uint8_t, kHelloBytes> Encode(const Hello& hello) {
  std::array<uint8_t, kHelloBytes> bytes{};
  Writer out(absl::MakeSpan(bytes));
  PutPrefix(out, Type::kHello).Put(hello.link.link_id).Put(hello.link.epoch).Put(hello.token);
  PutChecksum(out, bytes);
  return bytes;
}

std::array<uint8_t, kWelcomeBytes> Encode(const Welcome& welcome) {
  std::array<uint8_t, kWelcomeBytes> bytes{};
  Writer out(absl::MakeSpan(bytes));
  PutPrefix(out, Type::kWelcome).Put(welcome.link.link_id).Put(welcome.link.epoch);
  out.Put(uint64_t{welcome.accepted});
  PutChecksum(out, bytes);
  return bytes;
}

std::array<uint8_t, kConsumedBytes> Encode(const Consumed& consumed) {
  std::array<uint8_t, kConsumedBytes> bytes{};
  Writer out(absl::MakeSpan(bytes));
  PutPrefix(out, Type::kConsumed).Put(consumed.payload_bytes).Put(consumed.frames);
  PutChecksum(out, bytes);
  return bytes;
}

std::array<uint8_t, kFrameBytes> Encode(const FrameHeader& header) {
  std::array<uint8_t, kFrameBytes> bytes{};
  Writer out(absl::MakeSpan(bytes));
  PutPrefix(out, Type::kFrame);
  PutCovered(out, header);
  out.Put(header.digest).Put(header.sequence);
  PutChecksum(out, bytes);
  return bytes;
}

absl::StatusOr<Hello> DecodeHello(absl::Span<const uint8_t> bytes) {
  absl::StatusOr<Reader> in = Open(bytes, kHelloBytes, Type::kHello);
  if (!in.ok()) return in.status();
  Hello hello;
  hello.link.link_id = in->Take<uint64_t>();
  hello.link.epoch = in->Take<uint64_t>();
  hello.token = in->TakeBytes16();
  return hello;
}

absl::StatusOr<Welcome> DecodeWelcome(absl::Span<const uint8_t> bytes) {
  absl::StatusOr<Reader> in = Open(bytes, kWelcomeBytes, Type::kWelcome);
  if (!in.ok()) return in.status();
  Welcome welcome;
  welcome.link.link_id = in->Take<uint64_t>();
  welcome.link.epoch = in->Take<uint64_t>();
  welcome.accepted = in->Take<uint64_t>() == 1;
  return welcome;
}

absl::StatusOr<Consumed> DecodeConsumed(absl::Span<const uint8_t> bytes) {
  absl::StatusOr<Reader> in = Open(bytes, kConsumedBytes, Type::kConsumed);
  if (!in.ok()) return in.status();
  Consumed consumed;
  consumed.payload_bytes = in->Take<uint64_t>();
  consumed.frames = in->Take<uint64_t>();
  return consumed;
}

absl::StatusOr<FrameHeader> DecodeFrame(absl::Span<const uint8_t> bytes,
                                        uint64_t max_payload_bytes) {
  absl::StatusOr<Reader> in = Open(bytes, kFrameBytes, Type::kFrame);
  if (!in.ok()) return in.status();
  FrameHeader header;
  header.tag.link.link_id = in->Take<uint64_t>();
  header.tag.link.epoch = in->Take<uint64_t>();
  header.tag.request = in->TakeBytes16();
  header.tag.attempt = in->Take<uint32_t>();
  header.tag.generation = in->Take<uint64_t>();
  header.tag.kv_abi = in->Take<uint64_t>();
  header.place.layer = in->Take<uint32_t>();
  header.place.first_block = in->Take<uint32_t>();
  header.place.blocks = in->Take<uint32_t>();
  header.payload_bytes = in->Take<uint64_t>();
  header.digest = in->TakeBytes16();
  header.sequence = in->Take<uint64_t>();
  if (header.payload_bytes == 0 || header.payload_bytes > max_payload_bytes) {
    return absl::DataLossError(absl::StrCat("KV frame: payload of ", header.payload_bytes,
                                            " bytes, the window takes 1 to ", max_payload_bytes));
  }
  return header;
}

}  // namespace wire

Bytes16 FrameDigest(const FrameHeader& header,
                    absl::Span<const absl::Span<const uint8_t>> payload) {
  std::array<uint8_t, wire::kCoveredBytes> covered;
  wire::Writer out(absl::MakeSpan(covered));
  wire::PutCovered(out, header);
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  XXH3_128bits_update(&state, covered.data(), covered.size());
  for (const absl::Span<const uint8_t> part : payload) {
    XXH3_128bits_update(&state, part.data(), part.size());
  }
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
  Bytes16 digest;
  std::memcpy(digest.data(), canonical.digest, digest.size());
  return digest;
}

Bytes16 RequestDigest(absl::string_view request_id) {
  std::array<uint8_t, SHA256_DIGEST_LENGTH> sha;
  SHA256(reinterpret_cast<const uint8_t*>(request_id.data()), request_id.size(), sha.data());
  Bytes16 digest;
  std::memcpy(digest.data(), sha.data(), digest.size());
  return digest;
}

uint64_t ShortDigest(absl::string_view text) {
  std::array<uint8_t, SHA256_DIGEST_LENGTH> sha;
  SHA256(reinterpret_cast<const uint8_t*>(text.data()), text.size(), sha.data());
  return wire::Reader(sha).Take<uint64_t>();
}

}  // namespace tandem
