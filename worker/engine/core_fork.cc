// The outputs of one request: one sequence until its prompt is computed, then one each.
#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "worker/engine/core.h"

namespace tandem {

// The other outputs, which nobody has heard of yet and which have no blocks.
absl::StatusOr<EngineCore::Forks> EngineCore::MakeForks(const Sequence& first) const {
  Forks forks;
  const std::vector<uint32_t> outputs = first.outputs();
  for (size_t i = 1; i < outputs.size(); ++i) {
    forks.push_back(first.Fork(outputs[i]));
    if (first.guide == nullptr) continue;
    if (!first.fork_guides.empty()) {
      forks.back()->guide = first.fork_guides[i - 1];
    } else {
      ASSIGN_OR_RETURN(forks.back()->guide, first.guide->Fork());
    }
  }
  return forks;
}

// Outputs share what is full of the prompt alone; each has a copy of the block that it writes next.
void EngineCore::ShareBlocks(Sequence& first, uint32_t own, Sequence& fork) {
  const uint32_t full = first.prompt_tokens() / limits_.block_tokens;
  fork.blocks.assign(first.blocks.begin(), first.blocks.begin() + full);
  for (const BlockId block : fork.blocks) cache_.Share(block);
  const auto from = first.fork_blocks.end() - own;
  fork.blocks.insert(fork.blocks.end(), from, first.fork_blocks.end());
  first.fork_blocks.erase(from, first.fork_blocks.end());
  fork.clean_blocks = full;
  fork.cached_blocks = std::min(first.cached_blocks, full);
  if (first.prompt_tokens() % limits_.block_tokens == 0) return;
  parts_.model->kv()->Copy(first.blocks[full], fork.blocks[full]);
  ++fork.clean_blocks;
}

// All outputs in order, as sequences of their own from now on.
std::vector<Sequence*> EngineCore::Adopt(Sequence& first, Forks forks) {
  std::vector<Sequence*> all = {&first};
  if (forks.empty()) return all;
  const uint32_t own = static_cast<uint32_t>(first.fork_blocks.size() / forks.size());
  for (const auto& fork : forks) {
    ShareBlocks(first, own, *fork);
    all.push_back(fork.get());
  }
  first.StandForOne();
  live_[KeyOf(first)].assign(all.begin(), all.end());
  const auto it =
      std::find_if(held_.begin(), held_.end(), [&](const auto& s) { return s.get() == &first; });
  TANDEM_CHECK(it != held_.end(), "only a sequence that holds blocks is forked");
  held_.insert(it + 1, std::make_move_iterator(forks.begin()),
               std::make_move_iterator(forks.end()));
  return all;
}

// The prompt's last row: each output draws its first token from it, unless that is resumed: then
// it goes on as one that was preempted.
void EngineCore::ForkAndTake(Sequence& first, absl::Span<const float> row) {
  absl::StatusOr<Forks> forks = MakeForks(first);
  if (!forks.ok()) return EndWithError(first, forks.status());
  for (Sequence* output : Adopt(first, *std::move(forks))) {
    if (output->ended()) continue;  // by an error of another
    if (output->cancelled_outputs.contains(output->output_index())) {
      EndCancelled(*output);
    } else if (output->pending() == 0) {
      TakeToken(*output, row);
    }
  }
}

// The same of a prefill, whose outputs go on at another worker.
void EngineCore::TakeFirstTokens(Sequence& first, absl::Span<const float> row) {
  const absl::StatusOr<Forks> forks = MakeForks(first);
  if (!forks.ok()) return EndWithError(first, forks.status());
  std::vector<Sequence*> outputs = {&first};
  for (const auto& fork : *forks) outputs.push_back(fork.get());
  std::vector<FirstToken> tokens;
  for (Sequence* output : outputs) {
    const absl::StatusOr<std::optional<SequenceFinish>> finish = Produce(*output, row);
    if (!finish.ok()) return EndWithError(first, finish.status());
    tokens.push_back({output->output_index(), output->last_token(), finish->has_value()});
  }
  first.first_tokens = std::move(tokens);
  first.handoff_began = parts_.clock->Now();
  first.Enter(SequenceState::kSending);
  parts_.sender->Finish(first.handoff_key(), first.first_tokens);
}

absl::Status EngineCore::CheckFirstTokens(const EngineRequest& request,
                                          absl::Span<const FirstToken> tokens) const {
  if (tokens.size() != request.outputs) {
    return absl::InternalError(absl::StrCat("want the first tokens of ", request.outputs,
                                            " outputs, got ", tokens.size()));
  }
  for (uint32_t output = 0; output < tokens.size(); ++output) {
    const FirstToken& first = tokens[output];
    if (first.output_index != output) {
      return absl::InternalError(absl::StrCat("want the first token of output ", output,
                                              ", got that of output ", first.output_index));
    }
    if (first.token_id < 0 || static_cast<uint32_t>(first.token_id) >= vocab_) {
      return absl::InternalError(
          absl::StrCat("first token ", first.token_id, " is outside the vocabulary of ", vocab_));
    }
  }
  return absl::OkStatus();
}

// Whether the token completes the sentence of the output's grammar.
absl::StatusOr<bool> EngineCore::CheckReceived(Sequence& output, const FirstToken& first) {
  const absl::StatusOr<bool> over = SentenceOver(output, first.token_id);
  if (!over.ok()) {
    return absl::InternalError(
        "the two workers disagree whether the grammar allows it to start so");
  }
  if (output.FinishWith(first.token_id, *over).has_value() == first.ended) return over;
  return absl::InternalError("the two workers disagree whether the first token is the last");
}

// The prompt's KV is here: each output goes on behind its first token, which is reported once more.
absl::Status EngineCore::TakeReceived(Sequence& sequence, const HandoffReceived& received) {
  RETURN_IF_ERROR(CheckFirstTokens(sequence.request(), received.first_tokens));
  sequence.Computed(sequence.given_tokens());
  ASSIGN_OR_RETURN(Forks forks, MakeForks(sequence));
  std::vector<bool> over;  // all are looked at before any is told
  for (const FirstToken& first : received.first_tokens) {
    Sequence& output = first.output_index == 0 ? sequence : *forks[first.output_index - 1];
    ASSIGN_OR_RETURN(const bool one, CheckReceived(output, first));
    over.push_back(one);
  }
  PublishBlocks(sequence);
  for (Sequence* output : Adopt(sequence, std::move(forks))) {
    const uint32_t i = output->output_index();
    const int32_t token = received.first_tokens[i].token_id;
    const std::optional<SequenceFinish> finish = output->Append(token, over[i]);
    ReportToken(*output, token, std::nullopt, finish);
    if (finish) {
      Retire(*output, EndOf(*finish));
      continue;
    }
    output->Enter(SequenceState::kDecoding);
    if (output->cancelled_outputs.contains(i)) EndCancelled(*output);
  }
  return absl::OkStatus();
}

}  // namespace tandem
