#include "worker/engine/sequence.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace tandem {
namespace {

bool Allowed(SequenceState from, SequenceState to) {
  using S = SequenceState;
  switch (from) {
    case S::kWaiting:
      return to == S::kPrefilling || to == S::kAwaitingKv || to == S::kFinished;
    case S::kPrefilling:
      return to != S::kPrefilling && to != S::kAwaitingKv;
    case S::kAwaitingKv:
      return to == S::kDecoding || to == S::kClosing || to == S::kFinished;
    case S::kSending:
      return to == S::kClosing || to == S::kFinished;
    case S::kDecoding:
      return to == S::kWaiting || to == S::kFinished;
    case S::kClosing:
      return to == S::kFinished;
    case S::kFinished:
      return false;
  }
  return false;
}

}  // namespace

absl::string_view NameOf(SequenceState state) {
  switch (state) {
    case SequenceState::kWaiting:
      return "waiting";
    case SequenceState::kPrefilling:
      return "prefilling";
    case SequenceState::kAwaitingKv:
      return "awaiting KV";
    case SequenceState::kDecoding:
      return "decoding";
    case SequenceState::kSending:
      return "sending";
    case SequenceState::kClosing:
      return "closing";
    case SequenceState::kFinished:
      return "finished";
  }
  return "?";
}

std::vector<uint32_t> RunningOutputs(const EngineRequest& request) {
  std::vector<uint32_t> outputs;
  for (uint32_t output = 0; output < request.outputs; ++output) {
    if (request.resume.empty() || !request.resume[output].ended) outputs.push_back(output);
  }
  return outputs;
}

uint64_t BlocksNeeded(const EngineRequest& request, uint32_t block_tokens) {
  uint64_t output = request.max_tokens;
  if (request.role == Role::kPrefill) {
    output = request.resume.empty() ? 0 : request.resume[0].tokens.size();
  }
  const uint64_t one = BlocksFor(request.prompt.size() + output, block_tokens);
  const uint64_t shared = request.prompt.size() / block_tokens;
  return one + (SequencesNeeded(request) - 1) * (one - shared);
}

uint32_t SequencesNeeded(const EngineRequest& request) {
  if (request.role == Role::kPrefill) return 1;
  return static_cast<uint32_t>(RunningOutputs(request).size());
}

Sequence::Sequence(uint64_t id, SessionId session, EngineRequest request, absl::Time arrived,
                   const BlockKey& root)
    : ready_since(arrived),
      id_(id),
      session_(session),
      request_(std::move(request)),
      limit_at_(arrived + request_.time_limit),
      tokens_(request_.prompt),
      keys_({root}) {
  const std::vector<uint32_t> running = RunningOutputs(request_);
  TANDEM_CHECK(!running.empty(), "a request without an output that runs");
  output_index_ = running.front();
  if (running.size() == 1) StandForOne();
}

std::unique_ptr<Sequence> Sequence::Fork(uint32_t output_index) const {
  auto fork = std::unique_ptr<Sequence>(new Sequence(*this));
  fork->id_ = id_ + output_index;
  fork->output_index_ = output_index;
  fork->StandForOne();
  fork->tokens_.reserve(tokens_.size() + request_.max_tokens);
  fork->blocks.clear();
  fork->fork_blocks.clear();
  fork->cached_tokens = 0;
  fork->prompt_logprobs.clear();
  fork->open_handoffs = 0;
  return fork;
}

void Sequence::StandForOne() {
  if (!request_.resume.empty()) {
    const std::vector<int32_t>& given = request_.resume[output_index_].tokens;
    tokens_.insert(tokens_.end(), given.begin(), given.end());
    resumed_ = static_cast<uint32_t>(given.size());
    request_.resume.clear();
  }
  request_.outputs = 1;
  fork_guides.clear();
}

std::vector<uint32_t> Sequence::outputs() const {
  return request_.outputs == 1 ? std::vector<uint32_t>{output_index_} : RunningOutputs(request_);
}

absl::Span<const int32_t> Sequence::Resumed(uint32_t output) const {
  if (!request_.resume.empty()) return request_.resume[output].tokens;
  return absl::MakeConstSpan(tokens_).subspan(prompt_tokens(), resumed_);
}

uint32_t Sequence::most_resumed() const {
  size_t most = 0;
  for (const ResumedOutput& one : request_.resume) {
    if (!one.ended) most = std::max(most, one.tokens.size());
  }
  return static_cast<uint32_t>(most);
}

uint64_t Sequence::tokens_to_compute() const {
  uint64_t tokens = pending();
  for (const ResumedOutput& one : request_.resume) tokens += one.ended ? 0 : one.tokens.size();
  return tokens;
}

uint64_t Sequence::tokens_to_draw() const {
  const uint64_t each = request_.max_tokens - produced();
  return SequencesNeeded(request_) * each - (tokens_to_compute() - pending());
}

bool Sequence::told_all_ends() const {
  return !first_tokens.empty() && std::all_of(first_tokens.begin(), first_tokens.end(),
                                              [](const FirstToken& first) { return first.ended; });
}

void Sequence::Enter(SequenceState next) {
  TANDEM_CHECK(Allowed(state_, next), "a sequence can't go from this state to that one");
  if (state_ == SequenceState::kWaiting) tokens_.reserve(prompt_tokens() + request_.max_tokens);
  state_ = next;
}

void Sequence::Computed(uint32_t rows) {
  TANDEM_CHECK(rows <= pending(), "more rows were computed than there are tokens");
  computed_ += rows;
}

void Sequence::Preempt() {
  TANDEM_CHECK(preemptible() && blocks.empty(), "a sequence that may not be preempted is");
  Enter(SequenceState::kWaiting);
  preempted = true;
  lost_tokens = std::exchange(computed_, 0);
  clean_blocks = cached_blocks = 0;
  prompt_logprobs.clear();  // gathered again: none of them were told
}

absl::Span<const BlockKey> Sequence::Keys(uint32_t blocks, uint32_t block_tokens) {
  while (keys_.size() <= blocks) {
    const size_t at = (keys_.size() - 1) * block_tokens;
    TANDEM_CHECK(at + block_tokens <= tokens_.size(), "only whole blocks of tokens have keys");
    keys_.push_back(
        ChainBlockKey(keys_.back(), absl::MakeConstSpan(tokens_).subspan(at, block_tokens)));
  }
  return absl::MakeConstSpan(keys_).subspan(1, blocks);
}

bool Sequence::stops(int32_t token) const {
  return std::binary_search(request_.stop_ids.begin(), request_.stop_ids.end(), token);
}

DrawContext Sequence::draw_context() const {
  const auto tokens = absl::MakeConstSpan(tokens_);
  DrawContext context = {tokens.first(prompt_tokens()), tokens.subspan(prompt_tokens()), {}};
  if (produced() < request_.min_tokens) context.forbidden = request_.stop_ids;
  return context;
}

std::optional<SequenceFinish> Sequence::FinishWith(int32_t token, bool sentence_over) const {
  if (stops(token)) return SequenceFinish{FinishReason::kStop, token};
  if (sentence_over) return SequenceFinish{FinishReason::kStop, std::nullopt};
  if (produced() + 1 < request_.max_tokens) return std::nullopt;
  return SequenceFinish{FinishReason::kLength, std::nullopt};
}

std::optional<SequenceFinish> Sequence::Append(int32_t token, bool sentence_over) {
  TANDEM_CHECK(produced() < request_.max_tokens, "a token beyond max_tokens");
  const std::optional<SequenceFinish> finish = FinishWith(token, sentence_over);
  tokens_.push_back(token);
  return finish;
}

void Sequence::Reassign(uint32_t attempt, std::string peer) {
  request_.attempt = attempt;
  request_.peer = std::move(peer);
}

}  // namespace tandem
