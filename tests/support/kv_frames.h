#pragma once
#include <cstdint>
#include <random>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "kvstore/transport/transport.h"
#include "kvstore/transport/wire.h"

// What the tests of KV transports send and how they watch it arrive.
namespace tandem {

inline std::vector<uint8_t> RandomBytes(size_t size, uint32_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; i += 8) {
    const uint64_t word = random();
    for (size_t j = i; j < size && j < i + 8; ++j) bytes[j] = uint8_t(word >> 8 * (j - i));
  }
  return bytes;
}

// A header that fits the payload, with its digest.
inline FrameHeader HeaderFor(const LinkName& link, absl::Span<const uint8_t> payload) {
  FrameHeader header;
  header.tag.link = link;
  header.tag.generation = 5;
  header.place = {.layer = 1, .first_block = 2, .blocks = 3};
  header.payload_bytes = payload.size();
  header.digest = FrameDigest(header, {payload});
  return header;
}

// Copies each frame, then checks the copy, as a receiver must.
class RecordingSink final : public FrameSink {
 public:
  struct Record {
    FrameHeader header;
    std::vector<uint8_t> payload;
    bool intact = false;
  };

  void OnFrame(const FrameHeader& header, absl::Span<const uint8_t> landed) override {
    Record record{header, {landed.begin(), landed.end()}};
    record.intact = FrameDigest(header, {record.payload}) == header.digest;
    MutexLock lock(&mu_);
    while (held_) changed_.Wait(&mu_);
    records_.push_back(std::move(record));
    changed_.NotifyAll();
  }
  void OnLinkClosed(const LinkName&, const absl::Status& why) override {
    MutexLock lock(&mu_);
    closed_.push_back(absl::Status(why.code(), why.message()));  // see handoff_ends.h
    changed_.NotifyAll();
  }

  // A receiver that takes nothing out of its window until released.
  void Hold(bool held) {
    MutexLock lock(&mu_);
    held_ = held;
    changed_.NotifyAll();
  }
  // Waits until `frames` have come; empty when they have not within 20 s.
  std::vector<Record> WaitForFrames(size_t frames) {
    MutexLock lock(&mu_);
    WaitUntil([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return records_.size() >= frames; });
    return records_.size() >= frames ? records_ : std::vector<Record>{};
  }
  absl::Status WaitForClose() {
    MutexLock lock(&mu_);
    WaitUntil([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !closed_.empty(); });
    return closed_.empty() ? absl::OkStatus() : closed_.front();
  }
  size_t frames() {
    MutexLock lock(&mu_);
    return records_.size();
  }
  size_t closes() {
    MutexLock lock(&mu_);
    return closed_.size();
  }

 private:
  template <typename Condition>
  void WaitUntil(Condition condition) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const absl::Time deadline = RealClock()->Now() + absl::Seconds(20);
    while (!condition() && RealClock()->Now() < deadline) {
      changed_.WaitFor(&mu_, absl::Milliseconds(200));
    }
  }

  Mutex mu_;
  CondVar changed_;
  bool held_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<Record> records_ ABSL_GUARDED_BY(mu_);
  std::vector<absl::Status> closed_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem
