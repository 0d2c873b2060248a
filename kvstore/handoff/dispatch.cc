#include "kvstore/handoff/dispatch.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/clock.h"

namespace tandem {

void Dispatch::MarkReady(uint32_t layer, uint32_t upto, uint32_t block_tokens) {
  if (layer >= ready.size()) return;
  const auto all = static_cast<uint32_t>(blocks.size());
  // A block that the prompt fills only partly is ready with the prompt's last token.
  const uint32_t now = upto >= prompt_tokens ? all : upto / block_tokens;
  ready[layer] = std::max(ready[layer], now);
}

std::optional<FramePlace> Dispatch::NextFrame(uint32_t max_blocks) const {
  for (uint32_t layer = 0; layer < ready.size(); ++layer) {
    if (ready[layer] <= taken[layer]) continue;
    return FramePlace{layer, taken[layer], std::min(ready[layer] - taken[layer], max_blocks)};
  }
  return std::nullopt;
}

void Dispatch::Take(const FramePlace& place) {
  taken[place.layer] += place.blocks;
  ++pushing;
}

void Dispatch::GiveBack(uint64_t payload_bytes) {
  --pushing;
  bytes += payload_bytes;
  if (payload_bytes > 0) ++frames;
}

bool Dispatch::AllPushed() const {
  return finished && pushing == 0 &&
         std::all_of(taken.begin(), taken.end(),
                     [this](uint32_t count) { return count == blocks.size(); });
}

absl::Status Dispatch::Accept(const ReservedMessage& reserved) {
  const auto all = static_cast<uint32_t>(blocks.size());
  if (reserved.first_block > all || reserved.blocks != all - reserved.first_block) {
    return absl::InternalError(absl::StrCat("the decode worker asks for ", reserved.blocks,
                                            " blocks from ", reserved.first_block,
                                            " on, the prompt has ", all));
  }
  generation = reserved.generation;
  std::fill(taken.begin(), taken.end(), reserved.first_block);
  return absl::OkStatus();
}

}  // namespace tandem
