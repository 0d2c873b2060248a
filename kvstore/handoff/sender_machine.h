#pragma once
#include <cstdint>

#include "absl/strings/string_view.h"

// What the sending side of one handoff does next: a pure table, carried out by sender.cc, shown in
// docs/KV.md and checked there.
namespace tandem {

enum class SenderState {
  kLinking,     // no link to the peer yet
  kReserving,   // Reserve sent; nothing is pushed before the answer
  kPushing,     // reserved: frames leave as layers become ready
  kCompleting,  // every frame and Complete are sent
  kEnded,
};
inline constexpr int kSenderStates = 5;

enum class SenderEvent {
  kLinkUp,
  kLinkDown,
  kLinkRefused,  // for good, or for longer than a handoff waits
  kReserved,
  kRefused,
  kPeerAbort,
  kAllPushed,  // and the engine has called Finish
  kCompleted,
  kRenewTime,  // every renewal interval
  kAbort,      // by the engine
  kDeadline,
  kFault,  // the peer broke the protocol, or a frame does not fit the link
};
inline constexpr int kSenderEvents = 12;

struct SenderActions {
  bool send_reserve = false;
  bool send_renew = false;
  bool send_complete = false;
  bool send_abort = false;
  bool report = false;  // call the engine's `done`
  friend bool operator==(const SenderActions&, const SenderActions&) = default;
};

struct SenderStep {
  SenderState next;
  SenderActions actions;
  friend bool operator==(const SenderStep&, const SenderStep&) = default;
};

// A pair that the table does not list is ignored: the same state and no actions.
SenderStep Next(SenderState state, SenderEvent event);

absl::string_view NameOf(SenderState state);
absl::string_view NameOf(SenderEvent event);

}  // namespace tandem
