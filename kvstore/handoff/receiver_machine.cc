#include "kvstore/handoff/receiver_machine.h"

#include <array>

namespace tandem {
namespace {

using S = ReceiverState;
using E = ReceiverEvent;
using A = ReceiverActions;

struct Row {
  S from;
  E event;
  S to;
  A actions = {};
};

constexpr A kTellAndReport = {.send_abort = true, .report = true};
constexpr A kReport = {.report = true};
constexpr A kAsked = {.tell_asked = true};
constexpr A kLease = {.start_lease = true};
constexpr A kReserve = {.send_reserved = true, .start_lease = true};
constexpr A kDone = {.send_completed = true, .report = true};
constexpr A kRepeat = {.repeat_verdict = true};

constexpr Row kRows[] = {
    {S::kUnknown, E::kReserve, S::kParked, {.start_park = true}},
    {S::kUnknown, E::kAnnounce, S::kAnnounced},
    {S::kUnknown, E::kExpect, S::kExpected},
    {S::kUnknown, E::kPeerAbort, S::kEnded},
    {S::kUnknown, E::kComplete, S::kUnknown, {.send_abort = true}},
    {S::kUnknown, E::kRenew, S::kUnknown, {.send_abort = true}},

    {S::kParked, E::kAnnounce, S::kWaiting, kAsked},
    {S::kParked, E::kExpect, S::kFilling, kReserve},
    {S::kParked, E::kPeerAbort, S::kEnded},
    {S::kParked, E::kLinkDown, S::kUnknown},
    {S::kParked, E::kParkEnd, S::kEnded, {.send_refused = true}},
    {S::kParked, E::kReplaced, S::kEnded, {.send_refused = true}},

    {S::kAnnounced, E::kReserve, S::kWaiting, kAsked},
    {S::kAnnounced, E::kExpect, S::kExpected},
    {S::kAnnounced, E::kPeerAbort, S::kEnded},
    {S::kAnnounced, E::kCancel, S::kEnded},
    {S::kAnnounced, E::kDeadline, S::kEnded},
    {S::kAnnounced, E::kReplaced, S::kEnded},

    {S::kWaiting, E::kExpect, S::kFilling, kReserve},
    {S::kWaiting, E::kPeerAbort, S::kEnded},
    {S::kWaiting, E::kLinkDown, S::kAnnounced},
    {S::kWaiting, E::kCancel, S::kEnded, {.send_refused = true}},
    {S::kWaiting, E::kDeadline, S::kEnded, {.send_abort = true}},
    {S::kWaiting, E::kReplaced, S::kEnded, {.send_refused = true}},

    {S::kExpected, E::kReserve, S::kFilling, kReserve},
    {S::kExpected, E::kPeerAbort, S::kEnded, kReport},
    {S::kExpected, E::kCancel, S::kEnded, kReport},
    {S::kExpected, E::kDeadline, S::kEnded, kReport},
    {S::kExpected, E::kReplaced, S::kEnded, kReport},

    {S::kFilling, E::kReserve, S::kFilling, kReserve},
    {S::kFilling, E::kFrameGood, S::kFilling, kLease},
    {S::kFilling, E::kFrameBad, S::kEnded, kTellAndReport},
    {S::kFilling, E::kAllFilled, S::kFilled},
    {S::kFilling, E::kComplete, S::kCompleting, kLease},
    {S::kFilling, E::kRenew, S::kFilling, kLease},
    {S::kFilling, E::kPeerAbort, S::kEnded, kReport},
    {S::kFilling, E::kLinkDown, S::kEnded, kReport},
    {S::kFilling, E::kCancel, S::kEnded, kTellAndReport},
    {S::kFilling, E::kLeaseEnd, S::kEnded, kTellAndReport},
    {S::kFilling, E::kDeadline, S::kEnded, kTellAndReport},
    {S::kFilling, E::kReplaced, S::kEnded, kTellAndReport},

    {S::kFilled, E::kReserve, S::kFilled, kReserve},
    {S::kFilled, E::kFrameBad, S::kEnded, kTellAndReport},
    {S::kFilled, E::kComplete, S::kEnded, kDone},
    {S::kFilled, E::kRenew, S::kFilled, kLease},
    {S::kFilled, E::kPeerAbort, S::kEnded, kReport},
    {S::kFilled, E::kLinkDown, S::kEnded, kReport},
    {S::kFilled, E::kCancel, S::kEnded, kTellAndReport},
    {S::kFilled, E::kLeaseEnd, S::kEnded, kTellAndReport},
    {S::kFilled, E::kDeadline, S::kEnded, kTellAndReport},
    {S::kFilled, E::kReplaced, S::kEnded, kTellAndReport},

    {S::kCompleting, E::kFrameGood, S::kCompleting, kLease},
    {S::kCompleting, E::kFrameBad, S::kEnded, kTellAndReport},
    {S::kCompleting, E::kAllFilled, S::kEnded, kDone},
    {S::kCompleting, E::kComplete, S::kCompleting, kLease},
    {S::kCompleting, E::kRenew, S::kCompleting, kLease},
    {S::kCompleting, E::kPeerAbort, S::kEnded, kReport},
    {S::kCompleting, E::kLinkDown, S::kEnded, kReport},
    {S::kCompleting, E::kCancel, S::kEnded, kTellAndReport},
    {S::kCompleting, E::kLeaseEnd, S::kEnded, kTellAndReport},
    {S::kCompleting, E::kDeadline, S::kEnded, kTellAndReport},
    {S::kCompleting, E::kReplaced, S::kEnded, kTellAndReport},

    {S::kEnded, E::kExpect, S::kEnded, kReport},
    {S::kEnded, E::kReserve, S::kEnded, kRepeat},
    {S::kEnded, E::kComplete, S::kEnded, kRepeat},
    {S::kEnded, E::kRenew, S::kEnded, kRepeat},
};

using Table = std::array<std::array<ReceiverStep, kReceiverEvents>, kReceiverStates>;

constexpr Table MakeTable() {
  Table table{};
  for (int state = 0; state < kReceiverStates; ++state) {
    for (ReceiverStep& step : table[state]) step.next = static_cast<S>(state);
  }
  for (const Row& row : kRows) {
    table[static_cast<int>(row.from)][static_cast<int>(row.event)] = {row.to, row.actions};
  }
  return table;
}
constexpr Table kTable = MakeTable();

constexpr absl::string_view kStateNames[kReceiverStates] = {"UNKNOWN", "PARKED",     "ANNOUNCED",
                                                            "WAITING", "EXPECTED",   "FILLING",
                                                            "FILLED",  "COMPLETING", "ENDED"};
constexpr absl::string_view kEventNames[kReceiverEvents] = {
    "Reserve",    "Announce", "Expect",     "frame good", "frame bad",
    "all filled", "Complete", "RenewLease", "Abort",      "link down",
    "Cancel",     "park end", "lease end",  "deadline",   "replaced"};

}  // namespace

ReceiverStep Next(ReceiverState state, ReceiverEvent event) {
  return kTable[static_cast<int>(state)][static_cast<int>(event)];
}

absl::string_view NameOf(ReceiverState state) { return kStateNames[static_cast<int>(state)]; }
absl::string_view NameOf(ReceiverEvent event) { return kEventNames[static_cast<int>(event)]; }

}  // namespace tandem
