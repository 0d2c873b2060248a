#include "tests/worker/engine/fake_handoff.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tandem {

void FakeHandoff::Begin(const HandoffKey& key, const std::string& peer, uint32_t prompt_tokens,
                        std::vector<BlockId> blocks, absl::Time, HandoffSender::Done done) {
  if (blocks.size() != (prompt_tokens + 15) / 16) faults.emplace_back("Begin: blocks");
  if (sends_.contains(NameOf(key))) faults.emplace_back("Begin: the key is in use");
  peers.push_back(peer);
  if (const auto it = announced_.find(NameOf(key)); it != announced_.end()) it->second();
  given_up_.erase(NameOf(key));
  sends_[NameOf(key)] = {prompt_tokens, std::move(blocks), std::move(done), {}, {}, {}, false};
}

void FakeHandoff::LayerReady(const HandoffKey& key, uint32_t layer, uint32_t upto) {
  const auto it = sends_.find(NameOf(key));
  if (it == sends_.end()) return;  // it failed a moment ago, and the engine has not heard of it
  uint32_t& known = it->second.upto[layer];
  if (upto <= known || upto > it->second.prompt_tokens) faults.emplace_back("LayerReady: upto");
  if (layer > 0 && it->second.upto[layer - 1] < upto)
    faults.emplace_back("LayerReady: layer order");
  if (it->second.first_tokens) faults.emplace_back("LayerReady after Finish");
  known = upto;
  Take(it->second, layer);
}

// What a real sender may push from now on: whole blocks, and the last one with the prompt's end.
void FakeHandoff::Take(Send& send, uint32_t layer) {
  const uint32_t upto = send.upto[layer];
  const size_t ready = upto == send.prompt_tokens ? send.blocks.size() : upto / 16;
  std::vector<uint8_t>& taken = send.taken[layer];
  for (size_t i = taken.size() / from_->layout().slice_bytes(); i < ready; ++i) {
    const absl::Span<uint8_t> source = from_->Slice(layer, send.blocks[i]);
    taken.insert(taken.end(), source.begin(), source.end());
  }
}

void FakeHandoff::Finish(const HandoffKey& key, std::vector<FirstToken> first_tokens) {
  const auto it = sends_.find(NameOf(key));
  if (it == sends_.end()) return;
  for (uint32_t layer = 0; layer < from_->layout().layers; ++layer) {
    if (it->second.upto[layer] != it->second.prompt_tokens) faults.emplace_back("Finish too early");
  }
  it->second.first_tokens = std::move(first_tokens);
}

void FakeHandoff::Abort(const HandoffKey& key) {
  if (const auto it = sends_.find(NameOf(key)); it != sends_.end()) {
    it->second.aborted = true;
    given_up_.insert(NameOf(key));
  }
}

void FakeHandoff::Announce(const HandoffKey& key, absl::Time, Asked asked) {
  if (receives_.contains(NameOf(key))) faults.emplace_back("Announce after Expect");
  if (sends_.contains(NameOf(key))) asked();
  if (!announced_.emplace(NameOf(key), std::move(asked)).second) {
    faults.emplace_back("Announce: twice");
  }
}

void FakeHandoff::Expect(const HandoffKey& key, uint32_t prompt_tokens, std::vector<BlockId> blocks,
                         uint32_t held_blocks, absl::Time, HandoffReceiver::Done done) {
  if (blocks.size() != (prompt_tokens + 15) / 16) faults.emplace_back("Expect: blocks");
  if (announced_.erase(NameOf(key)) == 0) faults.emplace_back("Expect: not announced");
  if (held_blocks > blocks.size()) faults.emplace_back("Expect: held blocks");
  this->held_blocks += held_blocks;
  receives_[NameOf(key)] = {prompt_tokens, std::move(blocks), held_blocks, std::move(done), false};
}

void FakeHandoff::Cancel(const HandoffKey& key, absl::string_view) {
  announced_.erase(NameOf(key));
  if (const auto it = receives_.find(NameOf(key)); it != receives_.end()) {
    it->second.cancelled = true;
  }
}

void FakeHandoff::Copy(const Send& send, const Receive& receive) {
  if (send.prompt_tokens != receive.prompt_tokens) faults.emplace_back("prompts of unequal length");
  const size_t bytes = from_->layout().slice_bytes();
  for (uint32_t layer = 0; layer < from_->layout().layers; ++layer) {
    const std::vector<uint8_t>& taken = send.taken.at(layer);
    for (size_t i = 0; i < send.blocks.size(); ++i) {
      const auto slice = absl::MakeConstSpan(taken).subspan(i * bytes, bytes);
      const auto target = to_->Slice(layer, receive.blocks[i]);
      if (i >= receive.held_blocks) {
        std::copy(slice.begin(), slice.end(), target.begin());
      } else if (absl::MakeConstSpan(target) != slice) {
        faults.push_back(absl::StrCat("held block ", i, " is another one"));
      }
      if (slice == from_->Slice(layer, send.blocks[i])) continue;
      faults.push_back(absl::StrCat("LayerReady too early: layer ", layer, ", block ", i));
    }
  }
}

void FakeHandoff::Deliver() {
  for (const HandoffKey& key : sending()) {
    if (sends_[NameOf(key)].aborted) FailSend(key, absl::CancelledError("aborted"));
  }
  for (const HandoffKey& key : expecting()) {
    if (receives_[NameOf(key)].cancelled) {
      FailReceive(key, absl::CancelledError("cancelled"));
    } else if (given_up_.contains(NameOf(key))) {
      FailReceive(key, absl::AbortedError("the peer gave up"));
    }
  }
  for (const HandoffKey& key : sending()) {
    const auto receive = receives_.find(NameOf(key));
    if (!sends_[NameOf(key)].first_tokens || receive == receives_.end()) continue;
    const Send send = std::move(sends_[NameOf(key)]);
    const Receive received = std::move(receive->second);
    sends_.erase(NameOf(key));
    receives_.erase(receive);
    Copy(send, received);
    const uint64_t bytes = send.blocks.size() * from_->layout().slice_bytes();
    send.done(HandoffSent{bytes, absl::Milliseconds(1)});
    received.done(HandoffReceived{*send.first_tokens, bytes});
  }
}

bool FakeHandoff::FailSend(const HandoffKey& key, absl::Status status) {
  const auto it = sends_.find(NameOf(key));
  if (it == sends_.end()) return false;
  const HandoffSender::Done done = std::move(it->second.done);
  sends_.erase(it);
  done(std::move(status));
  return true;
}

bool FakeHandoff::FailReceive(const HandoffKey& key, absl::Status status) {
  const auto it = receives_.find(NameOf(key));
  if (it == receives_.end()) return false;
  const HandoffReceiver::Done done = std::move(it->second.done);
  receives_.erase(it);
  done(std::move(status));
  return true;
}

std::vector<HandoffKey> FakeHandoff::sending() const {
  std::vector<HandoffKey> keys;
  for (const auto& [name, send] : sends_) keys.push_back({name.first, name.second});
  return keys;
}

std::vector<HandoffKey> FakeHandoff::expecting() const {
  std::vector<HandoffKey> keys;
  for (const auto& [name, receive] : receives_) keys.push_back({name.first, name.second});
  return keys;
}

}  // namespace tandem
