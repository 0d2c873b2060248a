#include "kvstore/handoff/sender_machine.h"

#include <array>

namespace tandem {
namespace {

using S = SenderState;
using E = SenderEvent;
using A = SenderActions;

struct Row {
  S from;
  E event;
  S to;
  A actions = {};
};

constexpr A kReport = {.report = true};
constexpr A kTellAndReport = {.send_abort = true, .report = true};

constexpr Row kRows[] = {
    {S::kLinking, E::kLinkUp, S::kReserving, {.send_reserve = true}},
    {S::kLinking, E::kLinkRefused, S::kEnded, kReport},
    {S::kLinking, E::kAbort, S::kEnded, kReport},
    {S::kLinking, E::kDeadline, S::kEnded, kReport},

    {S::kReserving, E::kLinkDown, S::kLinking},
    {S::kReserving, E::kReserved, S::kPushing},
    {S::kReserving, E::kRefused, S::kEnded, kReport},
    {S::kReserving, E::kPeerAbort, S::kEnded, kReport},
    // Lost messages are sent again at each renewal; the receiver takes duplicates.
    {S::kReserving, E::kRenewTime, S::kReserving, {.send_reserve = true}},
    {S::kReserving, E::kAbort, S::kEnded, kTellAndReport},
    {S::kReserving, E::kDeadline, S::kEnded, kTellAndReport},
    {S::kReserving, E::kFault, S::kEnded, kTellAndReport},

    {S::kPushing, E::kLinkDown, S::kEnded, kReport},
    {S::kPushing, E::kRefused, S::kEnded, kReport},
    {S::kPushing, E::kPeerAbort, S::kEnded, kReport},
    {S::kPushing, E::kAllPushed, S::kCompleting, {.send_complete = true}},
    {S::kPushing, E::kRenewTime, S::kPushing, {.send_renew = true}},
    {S::kPushing, E::kAbort, S::kEnded, kTellAndReport},
    {S::kPushing, E::kDeadline, S::kEnded, kTellAndReport},
    {S::kPushing, E::kFault, S::kEnded, kTellAndReport},

    {S::kCompleting, E::kLinkDown, S::kEnded, kReport},
    {S::kCompleting, E::kRefused, S::kEnded, kReport},
    {S::kCompleting, E::kPeerAbort, S::kEnded, kReport},
    {S::kCompleting, E::kCompleted, S::kEnded, kReport},
    {S::kCompleting, E::kRenewTime, S::kCompleting, {.send_complete = true}},
    {S::kCompleting, E::kAbort, S::kEnded, kTellAndReport},
    {S::kCompleting, E::kDeadline, S::kEnded, kTellAndReport},
    {S::kCompleting, E::kFault, S::kEnded, kTellAndReport},
};

using Table = std::array<std::array<SenderStep, kSenderEvents>, kSenderStates>;

constexpr Table MakeTable() {
  Table table{};
  for (int state = 0; state < kSenderStates; ++state) {
    for (SenderStep& step : table[state]) step.next = static_cast<S>(state);
  }
  for (const Row& row : kRows) {
    table[static_cast<int>(row.from)][static_cast<int>(row.event)] = {row.to, row.actions};
  }
  return table;
}
constexpr Table kTable = MakeTable();

constexpr absl::string_view kStateNames[kSenderStates] = {"LINKING", "RESERVING", "PUSHING",
                                                          "COMPLETING", "ENDED"};
constexpr absl::string_view kEventNames[kSenderEvents] = {
    "link up",    "link down", "link refused", "Reserved", "Refused",  "Abort",
    "all pushed", "Completed", "renewal",      "Abort()",  "deadline", "fault"};

}  // namespace

SenderStep Next(SenderState state, SenderEvent event) {
  return kTable[static_cast<int>(state)][static_cast<int>(event)];
}

absl::string_view NameOf(SenderState state) { return kStateNames[static_cast<int>(state)]; }
absl::string_view NameOf(SenderEvent event) { return kEventNames[static_cast<int>(event)]; }

}  // namespace tandem
