#pragma once
#include <cstdint>

#include "absl/strings/string_view.h"

// What the receiving side of one handoff does next: a pure table, carried out by receiver.cc, shown
// in docs/KV.md and checked there.
namespace tandem {

enum class ReceiverState {
  kUnknown,     // nothing is known of this attempt
  kParked,      // the peer's Reserve waits for the engine, which has not heard of the request
  kAnnounced,   // the engine has the request in its queue
  kWaiting,     // both: the peer's Reserve waits until the engine has made room
  kExpected,    // the engine has made room, and waits for the peer's Reserve
  kFilling,     // leased: frames may come
  kFilled,      // every block arrived; the peer's Complete is missing
  kCompleting,  // Complete came before the last frames
  kEnded,       // over; kept for a while to answer duplicates
};
inline constexpr int kReceiverStates = 9;

enum class ReceiverEvent {
  kReserve,
  kAnnounce,
  kExpect,
  kFrameGood,
  kFrameBad,   // wrong tag, place or digest; or a Complete that does not fit what came
  kAllFilled,  // the frame just counted was the last one that was missing
  kComplete,
  kRenew,
  kPeerAbort,
  kLinkDown,
  kCancel,
  kParkEnd,
  kLeaseEnd,
  kDeadline,
  kReplaced,  // a newer attempt of the request appeared
};
inline constexpr int kReceiverEvents = 15;

struct ReceiverActions {
  bool send_reserved = false;
  bool send_refused = false;
  bool send_completed = false;
  bool send_abort = false;
  bool repeat_verdict = false;  // tell the peer again how it ended
  bool start_park = false;
  bool tell_asked = false;   // the engine may reserve: the sender has started
  bool start_lease = false;  // or renew it
  bool report = false;       // call the engine's `done`
  friend bool operator==(const ReceiverActions&, const ReceiverActions&) = default;
};

struct ReceiverStep {
  ReceiverState next;
  ReceiverActions actions;
  friend bool operator==(const ReceiverStep&, const ReceiverStep&) = default;
};

// A pair that the table does not list is ignored: the same state and no actions.
ReceiverStep Next(ReceiverState state, ReceiverEvent event);

absl::string_view NameOf(ReceiverState state);
absl::string_view NameOf(ReceiverEvent event);

}  // namespace tandem
