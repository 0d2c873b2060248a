// A relay towards its client: what it takes, how it is held back, what has come of it.
#include "router/api/relay.h"

#include <algorithm>
#include <utility>

namespace tandem {

void Relay::Throttle() {
  const Leg& decode = leg(LegKind::kDecode);
  if (options_.client_buffer_bytes == 0 || paused_ || end_ || !decode.handle || decode.over) return;
  if (pending_bytes_ <= options_.client_buffer_bytes) return;
  paused_ = true;
  blocked_since_ = options_.clock->Now();
}

void Relay::TellPaused() {
  for (;;) {
    std::shared_ptr<WorkerChannel> session;
    uint64_t handle = 0;
    bool pause = false;
    {
      MutexLock lock(&mu_);
      const Leg& decode = leg(LegKind::kDecode);
      if (telling_ || told_paused_ == paused_ || !decode.handle || decode.over) return;
      telling_ = true;
      told_paused_ = pause = paused_;
      session = decode.session;
      handle = *decode.handle;
    }
    if (pause) options_.metrics->client_pauses.Add();
    pause ? session->Pause(handle) : session->Resume(handle);
    MutexLock lock(&mu_);
    telling_ = false;
  }
}

std::optional<Relay::Chunk> Relay::Take(bool whole) {
  Chunk chunk;
  {
    MutexLock lock(&mu_);
    if (end_taken_ || (whole && !end_)) return std::nullopt;
    chunk.has_message = pending_.outputs_size() > 0 || pending_.has_end();
    if (!chunk.has_message && !end_) return std::nullopt;
    if (chunk.has_message) {
      chunk.message.Swap(&pending_);
      pending_bytes_ = 0;
      if (!start_sent_) chunk.message.mutable_start()->Swap(&plan_.start);
      start_sent_ = true;
    }
    chunk.end = end_;
    end_taken_ = end_.has_value();
    if (paused_ && !end_) {
      paused_ = false;
      blocked_since_.reset();
    }
  }
  TellPaused();
  return chunk;
}

bool Relay::ended() const {
  MutexLock lock(&mu_);
  return end_.has_value();
}

RelayOutcome Relay::Outcome() const {
  MutexLock lock(&mu_);
  RelayOutcome out;
  out.status = end_.value_or(absl::UnknownError("still running"));
  out.model = model_;
  out.prompt_tokens = prompt_tokens_;
  out.completion_tokens = completion_tokens_;
  out.finish = reason_;
  out.cached_tokens = cached_tokens_;
  for (const Leg& one : legs_) out.cached_tokens = std::max(out.cached_tokens, one.cached_tokens);
  if (first_token_ != absl::InfiniteFuture()) out.first_token = first_token_ - arrival_;
  out.total = std::min(ended_at_, options_.clock->Now()) - arrival_;
  return out;
}

}  // namespace tandem
