#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "kvstore/handoff/receiver_machine.h"
#include "kvstore/handoff/sender_machine.h"

// Every (state, event) pair of both tables, against docs/KV.md and against what must hold on every
// path through them.
namespace tandem {
namespace {

using RS = ReceiverState;
using RE = ReceiverEvent;
using SS = SenderState;
using SE = SenderEvent;

std::vector<std::string> Words(const ReceiverActions& a) {
  std::vector<std::string> words;
  if (a.start_park) words.push_back("park");
  if (a.tell_asked) words.push_back("asked");
  if (a.start_lease) words.push_back("lease");
  if (a.send_reserved) words.push_back("send Reserved");
  if (a.send_refused) words.push_back("send Refused");
  if (a.send_completed) words.push_back("send Completed");
  if (a.send_abort) words.push_back("send Abort");
  if (a.repeat_verdict) words.push_back("repeat the verdict");
  if (a.report) words.push_back("report");
  return words;
}

std::vector<std::string> Words(const SenderActions& a) {
  std::vector<std::string> words;
  if (a.send_reserve) words.push_back("send Reserve");
  if (a.send_renew) words.push_back("send RenewLease");
  if (a.send_complete) words.push_back("send Complete");
  if (a.send_abort) words.push_back("send Abort");
  if (a.report) words.push_back("report");
  return words;
}

// Calls with state, event and step of each pair that is not ignored.
template <typename State, typename Event, typename Call>
void ForEachRow(int states, int events, Call call) {
  for (int s = 0; s < states; ++s) {
    for (int e = 0; e < events; ++e) {
      const auto state = static_cast<State>(s);
      const auto event = static_cast<Event>(e);
      const auto step = Next(state, event);
      if (step != decltype(step){state, {}}) call(state, event, step);
    }
  }
}

// The rows of a table as Markdown.
template <typename State, typename Event>
std::string Rows(int states, int events) {
  std::string rows;
  ForEachRow<State, Event>(states, events, [&](State state, Event event, const auto& step) {
    const std::vector<std::string> words = Words(step.actions);
    absl::StrAppend(&rows, "| ", NameOf(state), " | ", NameOf(event), " | ", NameOf(step.next),
                    " | ", words.empty() ? "-" : absl::StrJoin(words, ", "), " |\n");
  });
  return rows;
}

std::string TextOf(absl::string_view path) {
  std::ifstream file(absl::StrCat(TANDEM_SOURCE_DIR, path));
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string Document() { return TextOf("/docs/KV.md"); }

// "send Reserved" becomes SEND_RESERVED, "Abort()" ABORT_CALL.
std::string Identifier(absl::string_view name) {
  return absl::AsciiStrToUpper(absl::StrReplaceAll(name, {{" ", "_"}, {"()", "_CALL"}}));
}

std::string Defines(absl::string_view prefix, int count,
                    const std::function<absl::string_view(int)>& name) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    absl::StrAppend(&text, "#define ", prefix, Identifier(name(i)), " ", i, "\n");
  }
  return text;
}

// One table in Promela: an inline that changes `state` and sets `act`.
template <typename State, typename Event>
std::string Promela(absl::string_view side, int states, int events) {
  const std::string prefix = absl::StrCat(side.substr(0, 1), "_");
  std::string text =
      absl::StrCat(Defines(prefix, states, [](int i) { return NameOf(static_cast<State>(i)); }),
                   Defines(absl::StrCat(prefix, "ON_"), events,
                           [](int i) { return NameOf(static_cast<Event>(i)); }),
                   "inline ", absl::AsciiStrToLower(side), "_step(state, event) {\n  if\n");
  ForEachRow<State, Event>(states, events, [&](State state, Event event, const auto& step) {
    std::vector<std::string> actions;
    for (const std::string& word : Words(step.actions)) actions.push_back(Identifier(word));
    absl::StrAppend(&text, "  :: state == ", prefix, Identifier(NameOf(state)),
                    " && event == ", prefix, "ON_", Identifier(NameOf(event)),
                    " -> state = ", prefix, Identifier(NameOf(step.next)),
                    "; act = ", actions.empty() ? "0" : absl::StrJoin(actions, " | "), "\n");
  });
  return text + "  :: else -> act = 0\n  fi\n}\n";
}

std::string Tables() {
  std::string text =
      "/* The tables of kvstore/handoff. TANDEM_UPDATE_DOCS=1 kvstore_handoff_test writes them. "
      "*/\n";
  const ReceiverActions receiver = {true, true, true, true, true, true, true, true, true};
  const SenderActions sender = {true, true, true, true, true};
  std::vector<std::string> words = Words(receiver);
  for (const std::string& word : Words(sender)) {
    if (std::find(words.begin(), words.end(), word) == words.end()) words.push_back(word);
  }
  for (size_t i = 0; i < words.size(); ++i) {
    absl::StrAppend(&text, "#define ", Identifier(words[i]), " ", 1 << i, "\n");
  }
  return absl::StrCat(text, Promela<RS, RE>("RECEIVER", kReceiverStates, kReceiverEvents),
                      Promela<SS, SE>("SENDER", kSenderStates, kSenderEvents));
}

TEST(Machines, TheModelHasTheirTables) {
  constexpr absl::string_view kPath = "/tests/model/handoff_tables.pml";
  if (std::getenv("TANDEM_UPDATE_DOCS") != nullptr) {
    std::ofstream(absl::StrCat(TANDEM_SOURCE_DIR, kPath)) << Tables();
  }
  EXPECT_EQ(TextOf(kPath), Tables()) << "run with TANDEM_UPDATE_DOCS=1 and read the difference";
}

TEST(ReceiverMachine, TheDocumentShowsTheTable) {
  EXPECT_THAT(Document(), testing::HasSubstr(Rows<RS, RE>(kReceiverStates, kReceiverEvents)));
}

TEST(SenderMachine, TheDocumentShowsTheTable) {
  EXPECT_THAT(Document(), testing::HasSubstr(Rows<SS, SE>(kSenderStates, kSenderEvents)));
}

// All paths, with any events in any order: an engine that expects hears exactly one end, and one
// that does not expect hears nothing.
TEST(ReceiverMachine, EveryPathReportsExactlyOnce) {
  using Node = std::tuple<RS, bool, int>;  // state, expected, reports
  std::set<Node> seen;
  std::vector<Node> open = {{RS::kUnknown, false, 0}};
  while (!open.empty()) {
    const Node node = open.back();
    open.pop_back();
    if (!seen.insert(node).second) continue;
    const auto [state, expected, reports] = node;
    SCOPED_TRACE(NameOf(state));
    EXPECT_EQ(reports, expected && state == RS::kEnded ? 1 : 0);
    for (int e = 0; e < kReceiverEvents; ++e) {
      const auto event = static_cast<RE>(e);
      if (event == RE::kExpect && expected) continue;  // the receiver refuses it beforehand
      const ReceiverStep step = Next(state, event);
      open.push_back({step.next, expected || event == RE::kExpect, reports + step.actions.report});
    }
  }
  EXPECT_EQ(seen.size(), 10u) << "nine states; ENDED with and without an engine";
}

TEST(ReceiverMachine, ADeadlineEndsWhateverAnEngineWaitsFor) {
  for (const RS state :
       {RS::kAnnounced, RS::kWaiting, RS::kExpected, RS::kFilling, RS::kFilled, RS::kCompleting}) {
    EXPECT_EQ(Next(state, RE::kDeadline).next, RS::kEnded) << NameOf(state);
    EXPECT_EQ(Next(state, RE::kCancel).next, RS::kEnded) << NameOf(state);
  }
}

TEST(ReceiverMachine, EndedIsForEverAndOnlyRepeats) {
  for (int e = 0; e < kReceiverEvents; ++e) {
    const ReceiverStep step = Next(RS::kEnded, static_cast<RE>(e));
    EXPECT_EQ(step.next, RS::kEnded);
    EXPECT_FALSE(step.actions.send_reserved || step.actions.send_completed ||
                 step.actions.start_lease);
  }
}

TEST(ReceiverMachine, CompletedIsSaidOnlyWithEveryBlockAndTheTokens) {
  for (int s = 0; s < kReceiverStates; ++s) {
    for (int e = 0; e < kReceiverEvents; ++e) {
      const auto state = static_cast<RS>(s);
      const auto event = static_cast<RE>(e);
      const bool whole = (state == RS::kFilled && event == RE::kComplete) ||
                         (state == RS::kCompleting && event == RE::kAllFilled);
      EXPECT_EQ(Next(state, event).actions.send_completed, whole)
          << NameOf(state) << " " << NameOf(event);
    }
  }
}

TEST(SenderMachine, EveryPathReportsExactlyOnce) {
  using Node = std::tuple<SS, int>;
  std::set<Node> seen;
  std::vector<Node> open = {{SS::kLinking, 0}};
  while (!open.empty()) {
    const Node node = open.back();
    open.pop_back();
    if (!seen.insert(node).second) continue;
    const auto [state, reports] = node;
    EXPECT_EQ(reports, state == SS::kEnded ? 1 : 0) << NameOf(state);
    for (int e = 0; e < kSenderEvents; ++e) {
      const SenderStep step = Next(state, static_cast<SE>(e));
      open.push_back({step.next, reports + step.actions.report});
    }
  }
  EXPECT_EQ(seen.size(), static_cast<size_t>(kSenderStates));
}

TEST(SenderMachine, NothingIsPushedBeforeReserved) {
  for (int s = 0; s < kSenderStates; ++s) {
    for (int e = 0; e < kSenderEvents; ++e) {
      const auto state = static_cast<SS>(s);
      const auto event = static_cast<SE>(e);
      if (state == SS::kPushing || Next(state, event).next != SS::kPushing) continue;
      EXPECT_EQ(state, SS::kReserving);
      EXPECT_EQ(event, SE::kReserved);
    }
  }
}

TEST(SenderMachine, AbortAndDeadlineEndEveryState) {
  for (int s = 0; s < kSenderStates; ++s) {
    EXPECT_EQ(Next(static_cast<SS>(s), SE::kAbort).next, SS::kEnded);
    EXPECT_EQ(Next(static_cast<SS>(s), SE::kDeadline).next, SS::kEnded);
  }
}

}  // namespace
}  // namespace tandem
