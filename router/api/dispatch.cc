#include "router/api/dispatch.h"

#include <algorithm>
#include <utility>

#include "base/status.h"

namespace tandem {
namespace {

namespace wv1 = worker::v1;

uint64_t ResumedTokens(const RelayAttempt& attempt) {
  uint64_t tokens = 0;
  for (const wv1::ResumedOutput& output : attempt.resume) tokens += output.token_ids_size();
  return tokens;
}

uint64_t LiveOutputs(const RelayAttempt& attempt, uint32_t outputs) {
  const auto ended = std::count_if(attempt.resume.begin(), attempt.resume.end(),
                                   [](const wv1::ResumedOutput& one) { return one.ended(); });
  return outputs - static_cast<uint64_t>(ended);
}

}  // namespace

// The decode worker is told first: it has to make room before the prefill worker may push.
absl::Status DispatchAttempt(const RelayAttempt& attempt, DispatchOrder order,
                             absl::Span<const WorkerView> workers, const ChannelOf& channel,
                             Relay* relay) {
  RETURN_IF_ERROR(relay->Judge(attempt.number, FatesOf(attempt.losses, workers)));
  PlacementCall& call = order.call;
  call.kv_abi = attempt.kv_abi;
  // Several outputs that were resumed have no prompt's KV in common that could be handed over.
  call.whole = attempt.whole || (!attempt.resume.empty() && call.outputs > 1);
  call.avoid = attempt.avoid;
  call.exclude = attempt.exclude;
  ASSIGN_OR_RETURN(const Placement placed, Pick(workers, call));
  wv1::Submit submit = order.submit();
  submit.mutable_resume()->Add(attempt.resume.begin(), attempt.resume.end());
  const auto leg = [&](LegKind kind, size_t worker) {
    const WorkerFacts& facts = *workers[worker].facts;
    return Relay::LegOrder{.kind = kind,
                           .attempt = attempt.number,
                           .address = facts.address,
                           .kv_abi = facts.kv_abi,
                           .incarnation = facts.incarnation,
                           .session = channel(worker),
                           .submit = submit};
  };
  const uint64_t known = call.prompt_tokens + ResumedTokens(attempt);
  const uint64_t output_tokens =
      LiveOutputs(attempt, call.outputs) * call.max_tokens - ResumedTokens(attempt);
  Relay::LegOrder decode = leg(LegKind::kDecode, placed.decode);
  decode.submit.set_role(placed.prefill ? wv1::ROLE_DECODE : wv1::ROLE_UNIFIED);
  decode.charge = output_tokens + (placed.prefill ? 0 : known);
  if (placed.prefill) relay->ExpectPrefill(attempt.number);
  if (!relay->AddLeg(std::move(decode)) || !placed.prefill) return absl::OkStatus();
  Relay::LegOrder prefill = leg(LegKind::kPrefill, *placed.prefill);
  prefill.submit.set_role(wv1::ROLE_PREFILL);
  prefill.submit.set_peer(workers[placed.decode].facts->handoff_address);
  prefill.charge = known;
  relay->AddLeg(std::move(prefill));
  return absl::OkStatus();
}

}  // namespace tandem
