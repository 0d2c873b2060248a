#include "worker/service/messages.h"

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/grpc_status.h"
#include "base/status.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;
namespace wv1 = worker::v1;

constexpr absl::Duration kRetryAfter = absl::Seconds(1);

void Fill(const TokenLogprob& from, iv1::TokenLogprob* to) {
  to->set_token_id(from.token_id);
  to->set_logprob(from.logprob);
  to->set_rank(from.rank);
}

void Fill(const PositionLogprobs& from, iv1::PositionLogprobs* to) {
  if (from.token.rank > 0) Fill(from.token, to->mutable_token());  // the first token has none
  for (const TokenLogprob& top : from.top) Fill(top, to->add_top());
}

iv1::FinishReason ReasonOf(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return iv1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return iv1::FINISH_REASON_LENGTH;
    case FinishReason::kTimeLimit:
      return iv1::FINISH_REASON_TIME_LIMIT;
    case FinishReason::kCancelled:
      return iv1::FINISH_REASON_CANCELLED;
  }
  return iv1::FINISH_REASON_UNSPECIFIED;
}

// Whether the same request may do better when it is sent again.
bool RetryIsSafe(absl::StatusCode code) {
  return code == absl::StatusCode::kUnavailable || code == absl::StatusCode::kResourceExhausted ||
         code == absl::StatusCode::kAborted || code == absl::StatusCode::kDataLoss;
}

bool IsField(absl::string_view text) {
  if (absl::StrContains(text, ' ')) return false;
  for (const absl::string_view message : {"guided.", "sampling.", "stopping.", "resume"}) {
    if (absl::StartsWith(text, message)) return true;
  }
  return false;
}

// The engine knows no protobuf: a field that is wrong stands at the beginning of its message.
absl::Status WithField(const absl::Status& status) {
  const std::pair<std::string, std::string> told =
      absl::StrSplit(status.message(), absl::MaxSplits(": ", 1));
  const bool named = IsField(told.first) && !told.second.empty();
  if (!absl::IsInvalidArgument(status) || !named) return status;
  return WithFieldViolation(status, told.first, told.second);
}

}  // namespace

google::rpc::Status ToWire(const absl::Status& original) {
  absl::Status status = WithField(original);
  const auto info = DetailOf<google::rpc::ErrorInfo>(status);
  const auto name = status.GetPayload(kReasonName);
  status.ErasePayload(kReasonName);
  std::string reason(info ? absl::string_view(info->reason()) : DefaultReason(status.code()));
  if (name) reason = std::string(*name);
  std::map<std::string, std::string> metadata;
  if (info) metadata.insert(info->metadata().begin(), info->metadata().end());
  metadata.emplace("retry", RetryIsSafe(status.code()) ? "safe" : "unsafe");
  const absl::Status out = WithReason(status, reason, metadata);
  return ToRpcStatus(absl::IsUnavailable(status) ? WithRetryAfter(out, kRetryAfter) : out);
}

wv1::SequenceStep ToProto(const SequenceOutput& output) {
  wv1::SequenceStep step;
  step.set_handle(output.handle);
  step.set_attempt(output.attempt);
  step.set_output_index(output.output_index);
  step.set_first_index(output.first_index);
  step.mutable_token_ids()->Add(output.token_ids.begin(), output.token_ids.end());
  for (const PositionLogprobs& position : output.logprobs) Fill(position, step.add_logprobs());
  for (const PositionLogprobs& position : output.prompt_logprobs) {
    Fill(position, step.add_prompt_logprobs());
  }
  step.set_cached_tokens(output.cached_tokens);
  if (output.finish) {
    step.mutable_finish()->set_reason(ReasonOf(output.finish->reason));
    if (output.finish->stop_token_id) {
      step.mutable_finish()->set_stop_token_id(*output.finish->stop_token_id);
    }
  }
  if (output.handoff) {
    step.mutable_handoff()->set_kv_bytes(output.handoff->bytes);
    step.mutable_handoff()->set_duration_us(absl::ToInt64Microseconds(output.handoff->duration));
  }
  if (!output.error.ok()) *step.mutable_error() = ToWire(output.error);
  return step;
}

wv1::Load ToProto(const EngineLoad& load) {
  wv1::Load out;
  out.set_waiting(load.waiting);
  out.set_running(load.running);
  out.set_blocks_total(load.blocks_total);
  out.set_blocks_free(load.blocks_free);
  out.set_queued_prefill_tokens(load.queued_prefill_tokens);
  out.set_outstanding_decode_tokens(load.outstanding_decode_tokens);
  out.set_prefill_tokens_per_second(load.prefill_tokens_per_second);
  out.set_decode_tokens_per_second(load.decode_tokens_per_second);
  out.set_draining(load.draining);
  return out;
}

wv1::Heartbeat ToProto(const EngineProgress& progress) {
  wv1::Heartbeat out;
  out.set_step_number(progress.step_number);
  out.set_engine_age_ms(absl::ToInt64Milliseconds(progress.age));
  return out;
}

wv1::Refused ToRefused(uint64_t handle, const absl::Status& status) {
  wv1::Refused refused;
  refused.set_handle(handle);
  *refused.mutable_status() = ToWire(status);
  return refused;
}

}  // namespace tandem
