#pragma once
#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kvstore/transport/socket.h"

namespace tandem {

// A landing window in memory that two processes share: a ring in a file without a name, which the
// receiver makes and the sender maps. It holds payload only. Positions count all bytes ever sent,
// and both sides count for themselves: nothing in the memory is ever followed.
//   shape   [window_bytes rounded up to pages], mapped twice in a row, so that every frame is one
//           span, wherever in the ring it begins
//   life    until destroyed; the other side's mapping lives on, and what is written there then
//           goes nowhere
//   errors  Unavailable the system's reason; DataLoss a peer's file that is not such a window
//   threads any; who may touch which bytes when is up to the callers
class ShmWindow {
 public:
  // For the receiver, who only reads. The size is sealed: no peer can cut it off under a reader.
  // Bytes that never held a frame cost no memory.
  static absl::StatusOr<ShmWindow> Create(uint64_t window_bytes);
  // For the sender: maps the file that came from a peer, who says that it is such a window.
  static absl::StatusOr<ShmWindow> Open(Socket file, uint64_t window_bytes);

  ShmWindow(ShmWindow&& other) noexcept;
  ShmWindow& operator=(ShmWindow&&) = delete;
  ~ShmWindow();

  // Both require bytes <= window_bytes.
  absl::Span<const uint8_t> Landed(uint64_t position, uint64_t bytes) const;
  absl::Span<uint8_t> Room(uint64_t position, uint64_t bytes) const;  // of an opened window

  const Socket& file() const { return file_; }  // to be sent to the peer

 private:
  ShmWindow(uint8_t* base, uint64_t ring_bytes, Socket file);
  static absl::StatusOr<ShmWindow> Map(Socket file, uint64_t ring_bytes, int protection);

  uint8_t* base_ = nullptr;
  uint64_t ring_bytes_ = 0;
  Socket file_;  // owns the descriptor, though it is no socket's
};

}  // namespace tandem
