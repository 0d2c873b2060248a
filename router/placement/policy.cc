#include "router/placement/policy.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace tandem {
namespace {

constexpr size_t kMaxNamed = 16;  // workers named in one message

absl::string_view RoleName(WorkerRole role) {
  switch (role) {
    case WorkerRole::kUnified:
      return "unified";
    case WorkerRole::kPrefill:
      return "prefill";
    case WorkerRole::kDecode:
      return "decode";
  }
  return "unknown role";
}

absl::string_view StateName(WorkerState state) {
  switch (state) {
    case WorkerState::kConnecting:
      return "connecting";
    case WorkerState::kReady:
      return "ready";
    case WorkerState::kDraining:
      return "draining";
    case WorkerState::kStuck:
      return "stuck";
    case WorkerState::kLost:
      return "lost";
    case WorkerState::kIncompatible:
      return "incompatible";
  }
  return "unknown state";
}

std::string Describe(const WorkerFacts& facts) {
  std::string out = facts.address;
  if (!facts.model.empty()) {
    absl::StrAppend(&out, " (", RoleName(facts.role), " of ", facts.model, ")");
  }
  absl::StrAppend(&out, ": ", StateName(facts.state));
  if (!facts.detail.empty()) absl::StrAppend(&out, ", ", facts.detail);
  return out;
}

bool Serves(const WorkerFacts& facts, const PlacementCall& call) {
  return facts.model == call.model && facts.revision == call.revision;
}

uint64_t Need(const PlacementCall& call) { return uint64_t{call.prompt_tokens} + call.max_tokens; }

bool Interchangeable(const WorkerFacts& prefill, const WorkerFacts& decode) {
  return !decode.handoff_address.empty() && prefill.kv_abi == decode.kv_abi &&
         prefill.block_tokens == decode.block_tokens &&
         prefill.tensor_parallel == decode.tensor_parallel;
}

// Least loaded first; equal loads in the order given.
void SortByLoad(absl::Span<const WorkerView> workers, std::vector<size_t>* indices) {
  std::stable_sort(indices->begin(), indices->end(), [workers](size_t a, size_t b) {
    return workers[a].predicted_tokens < workers[b].predicted_tokens;
  });
}

struct Candidates {
  std::vector<size_t> unified, prefill, decode;  // ready and large enough
  size_t ready = 0;
  uint64_t largest = 0;  // tokens that the largest one can hold, ready or expected back
};

Candidates Sift(absl::Span<const WorkerView> workers, const PlacementCall& call) {
  Candidates out;
  for (size_t i = 0; i < workers.size(); ++i) {
    const WorkerFacts& facts = *workers[i].facts;
    if (!Serves(facts, call)) continue;
    if (facts.state == WorkerState::kIncompatible) continue;
    out.largest = std::max(out.largest, Capacity(facts));
    if (facts.state != WorkerState::kReady) continue;
    ++out.ready;
    if (Need(call) > Capacity(facts)) continue;
    switch (facts.role) {
      case WorkerRole::kUnified:
        out.unified.push_back(i);
        break;
      case WorkerRole::kPrefill:
        out.prefill.push_back(i);
        break;
      case WorkerRole::kDecode:
        out.decode.push_back(i);
        break;
    }
  }
  SortByLoad(workers, &out.unified);
  SortByLoad(workers, &out.prefill);
  SortByLoad(workers, &out.decode);
  return out;
}

std::optional<Placement> PickPair(absl::Span<const WorkerView> workers, const Candidates& from) {
  for (const size_t decode : from.decode) {
    for (const size_t prefill : from.prefill) {
      if (Interchangeable(*workers[prefill].facts, *workers[decode].facts)) {
        return Placement{decode, prefill};
      }
    }
  }
  return std::nullopt;
}

absl::Status NothingFits(absl::Span<const WorkerView> workers, const PlacementCall& call,
                         const Candidates& from) {
  if (from.ready > 0 && Need(call) > from.largest) {
    return absl::InvalidArgumentError(absl::StrCat(
        "prompt of ", call.prompt_tokens, " tokens and max_tokens of ", call.max_tokens,
        " need room for ", Need(call), " tokens; the largest worker of ", call.model,
        " has room for ", from.largest));
  }
  return absl::UnavailableError(absl::StrCat("no worker is ready for ", Need(call), " tokens of ",
                                             call.model, "; tried: ", DescribeWorkers(workers)));
}

}  // namespace

uint64_t Capacity(const WorkerFacts& facts) {
  return std::min<uint64_t>(facts.max_context, uint64_t{facts.blocks} * facts.block_tokens);
}

absl::StatusOr<Placement> Pick(absl::Span<const WorkerView> workers, const PlacementCall& call) {
  const Candidates from = Sift(workers, call);
  if (std::optional<Placement> pair = PickPair(workers, from)) return *pair;
  for (const std::vector<size_t>* group : {&from.unified, &from.decode, &from.prefill}) {
    if (!group->empty()) return Placement{group->front(), std::nullopt};
  }
  return NothingFits(workers, call, from);
}

std::string DescribeWorkers(absl::Span<const WorkerView> workers) {
  if (workers.empty()) return "no worker address is known";
  std::vector<std::string> named;
  for (const WorkerView& view : workers.subspan(0, std::min(workers.size(), kMaxNamed))) {
    named.push_back(Describe(*view.facts));
  }
  if (workers.size() > kMaxNamed) {
    named.push_back(absl::StrCat("and ", workers.size() - kMaxNamed, " more"));
  }
  return absl::StrJoin(named, "; ");
}

}  // namespace tandem
