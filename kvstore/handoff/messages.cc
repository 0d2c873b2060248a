#include "kvstore/handoff/messages.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {
namespace {

template <typename T>
absl::Status CompareField(absl::string_view name, const T& here, const T& peer) {
  if (here == peer) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("KV layouts differ in ", name, ": ", here, " here, ", peer, " at the peer"));
}

}  // namespace

std::vector<std::string> NamesOf(const Transports& transports) {
  std::vector<std::string> names;
  for (const Transport* transport : transports) names.emplace_back(transport->capabilities().name);
  return names;
}

uint32_t MostConnectionsOf(const Transports& transports) {
  uint32_t most = 1;
  for (const Transport* transport : transports) {
    most = std::max(most, transport->capabilities().connections);
  }
  return most;
}

absl::Status StatusOf(const RefusedMessage& refused) {
  const auto text = [&refused](absl::string_view what) {
    return absl::StrCat("the decode worker refused: ", what, refused.detail.empty() ? "" : ": ",
                        refused.detail);
  };
  switch (refused.reason) {
    case RefuseReason::kFull:
      return absl::UnavailableError(text("no room now"));
    case RefuseReason::kUnknownRequest:
      return absl::UnavailableError(text("unknown request"));
    case RefuseReason::kDraining:
      return absl::UnavailableError(text("it is draining"));
    case RefuseReason::kCancelled:
      return absl::AbortedError(text("the request was cancelled"));
    case RefuseReason::kStaleAttempt:
      return absl::AbortedError(text("the attempt is over"));
  }
  return absl::InternalError(text("for no known reason"));
}

absl::Status StatusOf(const AbortMessage& abort) {
  const auto text = [&abort](absl::string_view what) {
    return absl::StrCat("the peer gave the handoff up: ", what, abort.detail.empty() ? "" : ": ",
                        abort.detail);
  };
  switch (abort.reason) {
    case AbortReason::kCancelled:
      return absl::AbortedError(text("cancelled"));
    case AbortReason::kFinished:
      return absl::AbortedError(text("nothing is left to decode"));
    case AbortReason::kCorrupt:
      return absl::DataLossError(text("KV arrived corrupted"));
    case AbortReason::kTimeout:
      return absl::DeadlineExceededError(text("its deadline passed"));
    case AbortReason::kLeaseExpired:
      return absl::DeadlineExceededError(text("the lease ended"));
    case AbortReason::kInternal:
      return absl::InternalError(text("internal error"));
  }
  return absl::InternalError(text("for no known reason"));
}

absl::Status CompareLayouts(const KvLayout& here, const KvLayout& peer) {
  RETURN_IF_ERROR(CompareField("dtype", here.dtype, peer.dtype));
  RETURN_IF_ERROR(CompareField("block_tokens", here.block_tokens, peer.block_tokens));
  RETURN_IF_ERROR(CompareField("layers", here.layers, peer.layers));
  RETURN_IF_ERROR(CompareField("kv_heads", here.kv_heads, peer.kv_heads));
  RETURN_IF_ERROR(CompareField("head_dim", here.head_dim, peer.head_dim));
  RETURN_IF_ERROR(CompareField("version", here.version, peer.version));
  RETURN_IF_ERROR(CompareField("weights_digest", here.weights_digest, peer.weights_digest));
  RETURN_IF_ERROR(CompareField("tokenizer_digest", here.tokenizer_digest, peer.tokenizer_digest));
  RETURN_IF_ERROR(CompareField("numerics_class", here.numerics_class, peer.numerics_class));
  RETURN_IF_ERROR(CompareField("tensor_parallel", here.tensor_parallel, peer.tensor_parallel));
  return CompareField("kv_abi", here.kv_abi, peer.kv_abi);
}

}  // namespace tandem
