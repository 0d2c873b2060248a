#pragma once
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/block_hash.h"
#include "kvstore/handoff/handoff.h"
#include "worker/engine/output.h"
#include "worker/engine/request.h"
#include "worker/sampler/adjust.h"

namespace tandem {

class Guide;

enum class SequenceState : uint8_t {
  kWaiting,     // in the queue; holds nothing
  kPrefilling,  // has its blocks; the prompt is being computed
  kAwaitingKv,  // has its blocks; the handoff fills them
  kDecoding,    // one token a step
  kSending,     // the prompt is done; the handoff still reads the blocks
  kClosing,     // its end is told; a handoff may still touch the blocks
  kFinished     // holds nothing
};
absl::string_view NameOf(SequenceState state);

// Those of its outputs that have not ended before it came.
std::vector<uint32_t> RunningOutputs(const EngineRequest& request);
// Blocks of a request's whole need: of the prompt, and of the outputs where they decode. They share
// what is full of the prompt alone.
uint64_t BlocksNeeded(const EngineRequest& request, uint32_t block_tokens);
// How many sequences it will be at once: one an output that runs where it decodes.
uint32_t SequencesNeeded(const EngineRequest& request);

// The smallest is the next in line: who arrived first, where a level of priority counts as an
// earlier arrival.
struct Place {
  absl::Time time;
  uint64_t number = 0;  // tells those of one time apart
  friend bool operator<(const Place& a, const Place& b) {
    return a.time != b.time ? a.time < b.time : a.number < b.number;
  }
};

// One output in the engine: its state, tokens and blocks. docs/ENGINE.md has the state table. Until
// its prompt is computed, or received, a request is one sequence, which stands for all its outputs
// that run; where that is one, what is resumed of it are its tokens from the start.
//   units   positions and counts are in tokens
//   errors  a transition that the table does not have is our bug and aborts
//   threads the engine's only
class Sequence {
 public:
  // `root`: of the keys of its blocks.
  Sequence(uint64_t id, SessionId session, EngineRequest request, absl::Time arrived,
           const BlockKey& root = {});

  // Another output of the request that this one is the first of: with the same prompt, in the same
  // state, without blocks. From then on each of them stands for one output. Its id is this one's
  // plus its index, so that a request's outputs arrived together.
  std::unique_ptr<Sequence> Fork(uint32_t output_index) const;
  // From now on what is resumed of the output are tokens of it, which are still to be computed.
  void StandForOne();

  uint64_t id() const { return id_; }  // unique in the engine's life
  SessionId session() const { return session_; }
  const EngineRequest& request() const { return request_; }
  HandoffKey handoff_key() const { return {request_.request_id, request_.attempt}; }
  // It stands for this output and, before the others were made, for all `outputs()`.
  uint32_t output_index() const { return output_index_; }
  std::vector<uint32_t> outputs() const;  // ascending, from output_index() on

  bool ready() const { return ready_since < absl::InfiniteFuture() && !compiling; }

  SequenceState state() const { return state_; }
  void Enter(SequenceState next);
  bool running() const {
    return state_ == SequenceState::kPrefilling || state_ == SequenceState::kDecoding;
  }
  // It hangs on nothing but its tokens and blocks: the tokens give new blocks.
  bool preemptible() const { return running() && open_handoffs == 0; }
  bool ended() const {  // told to the session; only blocks may be left
    return state_ == SequenceState::kClosing || state_ == SequenceState::kFinished;
  }
  // kPrefill: the end of this output, or of all, was told with its first token.
  bool told_end(uint32_t output) const {
    return output < first_tokens.size() && first_tokens[output].ended;
  }
  bool told_all_ends() const;

  uint32_t prompt_tokens() const { return static_cast<uint32_t>(request_.prompt.size()); }
  uint32_t produced() const { return static_cast<uint32_t>(tokens_.size()) - prompt_tokens(); }
  // Prompt, and the output as far as it was resumed: what a handoff moves the KV of.
  uint32_t given_tokens() const { return prompt_tokens() + resumed_; }
  // What is resumed of one of outputs(); valid until StandForOne, or the next Append.
  absl::Span<const int32_t> Resumed(uint32_t output) const;
  // Of those that are still to be made: how much of the one with the most.
  uint32_t most_resumed() const;
  uint32_t computed() const { return computed_; }  // tokens whose KV is in the cache
  int32_t last_token() const { return tokens_.back(); }
  uint32_t pending() const { return static_cast<uint32_t>(tokens_.size()) - computed_; }
  // Of all outputs that it stands for: before their next tokens are drawn, and that they may still
  // draw.
  uint64_t tokens_to_compute() const;
  uint64_t tokens_to_draw() const;
  absl::Span<const int32_t> NextTokens(uint32_t rows) const {  // requires: rows <= pending()
    return absl::MakeConstSpan(tokens_).subspan(computed_, rows);
  }
  // The KV of the next `rows` tokens is in the cache.
  void Computed(uint32_t rows);
  // Back into the queue: its blocks are gone, and all its tokens are to be computed again.
  //   requires: preemptible(), and its blocks are returned
  void Preempt();
  // Its KV comes from another worker, and is not here yet.
  bool awaits_handoff() const { return request_.role == Role::kDecode && produced() == resumed_; }
  bool wants_prompt_logprobs() const {
    return request_.prompt_logprobs && request_.role != Role::kDecode && tells_of_prompt();
  }
  // Its next token is output 0's first.
  bool tells_of_prompt() const {
    const bool resumed = !request_.resume.empty() && !request_.resume[0].tokens.empty();
    return output_index_ == 0 && produced() == 0 && !resumed;
  }
  bool stops(int32_t token) const;
  // Names of its first `blocks` whole blocks of tokens. Valid until the next call.
  //   requires: blocks * block_tokens <= tokens so far
  absl::Span<const BlockKey> Keys(uint32_t blocks, uint32_t block_tokens);
  // What the next token's draw depends on; valid until the next Append.
  DrawContext draw_context() const;
  absl::Time limit_at() const { return limit_at_; }  // when the time limit ends it
  // Whether this token, as the next one, would end the output. `sentence_over`: it completes a
  // sentence of the request's grammar that nothing can follow.
  std::optional<SequenceFinish> FinishWith(int32_t token, bool sentence_over) const;
  // Adds one output token. A value when it ends the output.
  std::optional<SequenceFinish> Append(int32_t token, bool sentence_over);

  std::vector<BlockId> blocks;                    // held from admission to kFinished
  std::vector<BlockId> fork_blocks;               // held for the outputs that are still to be made
  uint32_t clean_blocks = 0;                      // hold nothing of the last owner, from the first
  uint32_t cached_blocks = 0;                     // are in the prefix cache, from the first
  uint32_t cached_tokens = 0;                     // of the prompt, that it found there
  std::vector<PositionLogprobs> prompt_logprobs;  // gathered while prefilling
  std::vector<FirstToken> first_tokens;           // kPrefill: of each output, once drawn
  uint32_t open_handoffs = 0;                     // begun, and `done` not yet called
  absl::Time handoff_began = absl::InfinitePast();  // kDecode: expected; kPrefill: all is computed
  bool paused = false;
  bool preempted = false;                           // once or more
  uint32_t displaced = 0;                           // how often it made way for a higher priority
  uint32_t lost_tokens = 0;                         // that were computed when it was last preempted
  Place place;                                      // in the queue
  std::shared_ptr<Guide> guide;                     // of a guided request
  std::vector<std::shared_ptr<Guide>> fork_guides;  // of other outputs, where some are resumed
  std::set<uint32_t> cancelled_outputs;             // which end as soon as they are made
  bool compiling = false;                           // its grammar: until then it is not admitted
  // Since when it could have been admitted. Of a decode this is infinite until its prefill has
  // started: blocks that it took earlier would stand idle, and two workers whose queues are in
  // different orders would wait for each other.
  absl::Time ready_since;

  // A prefill's handoff goes to another worker from now on.
  void Reassign(uint32_t attempt, std::string peer);

 private:
  Sequence(const Sequence&) = default;  // Fork's

  uint64_t id_;
  uint32_t output_index_ = 0;
  const SessionId session_;
  EngineRequest request_;
  const absl::Time limit_at_;
  SequenceState state_ = SequenceState::kWaiting;
  std::vector<int32_t> tokens_;  // prompt, then output
  uint32_t resumed_ = 0;         // of the output: not drawn here
  uint32_t computed_ = 0;
  std::vector<BlockKey> keys_;  // the root's, then those of whole blocks, as far as asked for
};

}  // namespace tandem
