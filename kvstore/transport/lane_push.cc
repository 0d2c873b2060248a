#include "kvstore/transport/lane_push.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {

LanePush::LanePush(std::vector<std::unique_ptr<PacedPush>> lanes)
    : lanes_(std::move(lanes)), taken_(lanes_.size(), false) {}

absl::Status LanePush::Push(const FrameHeader& header,
                            absl::Span<const absl::Span<const uint8_t>> payload,
                            const PushLimits& limits) {
  ASSIGN_OR_RETURN(const size_t lane, Take());
  return GiveBack(lane, lanes_[lane]->Push(header, payload, limits));
}

void LanePush::Break() {
  broken_ = true;
  for (const auto& lane : lanes_) lane->Break();
}

absl::StatusOr<size_t> LanePush::Take() {
  MutexLock lock(&mu_);
  size_t best = lanes_.size();
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (taken_[i]) continue;
    if (best == lanes_.size() || lanes_[i]->in_flight() < lanes_[best]->in_flight()) best = i;
  }
  if (best == lanes_.size()) {
    return absl::InternalError(
        absl::StrCat("more than ", lanes_.size(), " KV pushes at once over as many connections"));
  }
  taken_[best] = true;
  return best;
}

absl::Status LanePush::GiveBack(size_t lane, const absl::Status& pushed) {
  MutexLock lock(&mu_);
  taken_[lane] = false;
  if (!lanes_[lane]->broken()) return pushed;
  if (!why_.ok()) {
    return absl::UnavailableError(
        absl::StrCat("another connection of the KV link broke: ", why_.message()));
  }
  // A status of its own: this one is read by other threads.
  why_ = absl::Status(pushed.code(), pushed.message());
  Break();
  return pushed;
}

}  // namespace tandem
