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

bool Contains(const std::vector<std::string>& addresses, const std::string& address) {
  return std::find(addresses.begin(), addresses.end(), address) != addresses.end();
}

bool Serves(const WorkerFacts& facts, const PlacementCall& call) {
  return facts.model == call.model && facts.revision == call.revision &&
         (call.kv_abi.empty() || facts.kv_abi == call.kv_abi) &&
         !Contains(call.exclude, facts.address);
}

uint64_t Need(const PlacementCall& call) { return uint64_t{call.prompt_tokens} + call.max_tokens; }

// Whether the worker can run all of the call, or with `outputs` of 1 the prompt of it.
bool Fits(const WorkerFacts& facts, const PlacementCall& call, uint32_t outputs) {
  return (outputs == 1 || outputs <= facts.max_sequences) &&
         Need(call) <= Capacity(facts, call.prompt_tokens, outputs);
}

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
  std::vector<size_t> unified, prefill, decode;  // ready and large enough, those to avoid apart
  std::vector<size_t> avoided;                   // ready and large enough for all of the call
  size_t ready = 0;
  // Of the largest one, ready or expected back: tokens that it can hold, and sequences at once.
  uint64_t largest = 0;
  uint32_t sequences = 0;
};

Candidates Sift(absl::Span<const WorkerView> workers, const PlacementCall& call) {
  Candidates out;
  for (size_t i = 0; i < workers.size(); ++i) {
    const WorkerFacts& facts = *workers[i].facts;
    if (!Serves(facts, call)) continue;
    if (facts.state == WorkerState::kIncompatible) continue;
    out.largest = std::max(out.largest, Capacity(facts, call.prompt_tokens, call.outputs));
    out.sequences = std::max(out.sequences, facts.max_sequences);
    if (facts.state != WorkerState::kReady) continue;
    ++out.ready;
    if (Contains(call.avoid, facts.address)) {
      if (Fits(facts, call, call.outputs)) out.avoided.push_back(i);
      continue;
    }
    if (!Fits(facts, call, facts.role == WorkerRole::kPrefill ? 1 : call.outputs)) continue;
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
  SortByLoad(workers, &out.avoided);
  return out;
}

std::optional<Placement> PickPair(absl::Span<const WorkerView> workers, const PlacementCall& call,
                                  const Candidates& from) {
  for (const size_t decode : from.decode) {
    for (const size_t prefill : from.prefill) {
      const WorkerFacts& p = *workers[prefill].facts;
      const WorkerFacts& d = *workers[decode].facts;
      if (!Interchangeable(p, d)) continue;
      const auto same =
          std::find(call.apart.begin(), call.apart.end(), WorkerPair{p.address, d.address});
      if (same == call.apart.end()) return Placement{decode, prefill};
    }
  }
  return std::nullopt;
}

absl::Status NothingFits(absl::Span<const WorkerView> workers, const PlacementCall& call,
                         const Candidates& from) {
  if (from.ready > 0 && call.outputs > 1 && call.outputs > from.sequences) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling.n: ", call.outputs, " outputs run at once; the largest worker of ",
                     call.model, " runs at most ", from.sequences, " sequences"));
  }
  if (from.ready > 0 && Need(call) > from.largest) {
    return absl::InvalidArgumentError(absl::StrCat(
        "prompt of ", call.prompt_tokens, " tokens and max_tokens of ", call.max_tokens,
        call.outputs > 1 ? absl::StrCat(", for each of ", call.outputs, " outputs,") : "",
        " need room for ", Need(call), " tokens; the largest worker of ", call.model,
        " has room for ", from.largest));
  }
  return absl::UnavailableError(absl::StrCat("no worker is ready for ", Need(call), " tokens of ",
                                             call.model, "; tried: ", DescribeWorkers(workers)));
}

}  // namespace

uint64_t Capacity(const WorkerFacts& facts, uint32_t prompt_tokens, uint32_t outputs) {
  if (facts.block_tokens == 0) return 0;
  const uint32_t shared = std::min(prompt_tokens / facts.block_tokens, facts.blocks);
  const uint64_t blocks = shared + (facts.blocks - shared) / outputs;
  return std::min<uint64_t>(facts.max_context, blocks * facts.block_tokens);
}

absl::StatusOr<Placement> Pick(absl::Span<const WorkerView> workers, const PlacementCall& call) {
  const Candidates from = Sift(workers, call);
  const std::optional<Placement> pair = PickPair(workers, call, from);
  if (pair && !call.whole) return *pair;
  for (const std::vector<size_t>* group :
       {&from.unified, &from.decode, &from.prefill, &from.avoided}) {
    for (const size_t one : *group) {
      if (Fits(*workers[one].facts, call, call.outputs)) return Placement{one, std::nullopt};
    }
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
