#include "tests/simulation/sim_handoffs.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

constexpr absl::Duration kPark = absl::Seconds(1);  // as ReceiverOptions::park

}  // namespace

class SimHandoffs::Sender final : public HandoffSender {
 public:
  Sender(SimHandoffs* all, LifeId life, BlockMemory* memory)
      : all_(all), life_(life), memory_(memory) {}

  void Begin(const HandoffKey& key, const std::string& peer, uint32_t prompt_tokens,
             std::vector<BlockId> blocks, absl::Time, Done done) override {
    const Name name(key.request_id, key.attempt);
    if (all_->sends_.contains(name)) all_->faults.emplace_back("Begin: the key is in use");
    Sending& sending = all_->sends_[name];
    sending = {life_, peer, memory_, prompt_tokens, std::move(blocks), std::move(done)};
    all_->events_->After(all_->Delay(), [all = all_, name] { all->Arrive(name); });
  }
  void LayerReady(const HandoffKey& key, uint32_t layer, uint32_t upto) override {
    const auto found = all_->sends_.find({key.request_id, key.attempt});
    if (found == all_->sends_.end()) return;
    Sending& sending = found->second;
    const size_t ready = upto == sending.prompt_tokens ? sending.blocks.size() : upto / 16;
    std::vector<uint8_t>& taken = sending.taken[layer];
    for (size_t i = taken.size() / memory_->layout().slice_bytes(); i < ready; ++i) {
      const absl::Span<uint8_t> source = memory_->Slice(layer, sending.blocks[i]);
      taken.insert(taken.end(), source.begin(), source.end());
    }
  }
  void Finish(const HandoffKey& key, std::vector<FirstToken> first_tokens) override {
    const Name name(key.request_id, key.attempt);
    const auto found = all_->sends_.find(name);
    if (found == all_->sends_.end()) return;
    found->second.first_tokens = std::move(first_tokens);
    all_->events_->After(all_->Delay(), [all = all_, name] { all->Deliver(name); });
  }
  void Abort(const HandoffKey& key) override {
    const Name name(key.request_id, key.attempt);
    const auto found = all_->sends_.find(name);
    if (found == all_->sends_.end()) return;
    if (Receiving* peer = all_->PeerOf(found->second, name); peer != nullptr && peer->done) {
      all_->EndReceive({name, peer->life}, absl::AbortedError("the peer gave up"));
    }
    all_->EndSend(name, absl::CancelledError("aborted"));
  }

 private:
  SimHandoffs* const all_;
  const LifeId life_;
  BlockMemory* const memory_;
};

class SimHandoffs::Receiver final : public HandoffReceiver {
 public:
  Receiver(SimHandoffs* all, LifeId life, BlockMemory* memory)
      : all_(all), life_(life), memory_(memory) {}

  void Announce(const HandoffKey& key, absl::Time, Asked asked) override {
    const ReceiverName name({key.request_id, key.attempt}, life_);
    Receiving& receiving = all_->receives_[name];
    if (receiving.asked || receiving.done) all_->faults.emplace_back("Announce: twice");
    receiving = {life_, memory_, std::move(asked)};
    all_->events_->After(all_->Delay(), [all = all_, at = name.first] { all->Arrive(at); });
  }
  void Expect(const HandoffKey& key, uint32_t, std::vector<BlockId> blocks, uint32_t held_blocks,
              absl::Time, Done done) override {
    const ReceiverName name({key.request_id, key.attempt}, life_);
    Receiving& receiving = all_->receives_[name];
    if (!receiving.asked) all_->faults.emplace_back("Expect: not announced");
    receiving.asked = nullptr;
    receiving.blocks = std::move(blocks);
    receiving.held_blocks = held_blocks;
    receiving.done = std::move(done);
    all_->events_->After(all_->Delay(), [all = all_, at = name.first] { all->Deliver(at); });
  }
  void Cancel(const HandoffKey& key, absl::string_view why) override {
    const ReceiverName name({key.request_id, key.attempt}, life_);
    const auto found = all_->receives_.find(name);
    if (found == all_->receives_.end()) return;
    all_->EndSend(name.first, absl::UnavailableError(why));
    if (found->second.done) {
      all_->EndReceive(name, absl::CancelledError("cancelled"));
    } else {
      all_->receives_.erase(found);
    }
  }

 private:
  SimHandoffs* const all_;
  const LifeId life_;
  BlockMemory* const memory_;
};

std::unique_ptr<HandoffSender> SimHandoffs::SenderOf(LifeId life, BlockMemory* memory) {
  return std::make_unique<Sender>(this, life, memory);
}

std::unique_ptr<HandoffReceiver> SimHandoffs::ReceiverOf(LifeId life, const std::string& address,
                                                         BlockMemory* memory) {
  at_[address] = life;
  return std::make_unique<Receiver>(this, life, memory);
}

SimHandoffs::Receiving* SimHandoffs::PeerOf(const Sending& sending, const Name& name) {
  const auto at = at_.find(sending.peer);
  if (at == at_.end()) return nullptr;
  const auto found = receives_.find({name, at->second});
  return found == receives_.end() ? nullptr : &found->second;
}

// The sender's question is there, or the request has come after it.
void SimHandoffs::Arrive(const Name& name) {
  const auto found = sends_.find(name);
  if (found == sends_.end() || found->second.ending) return;
  const auto at = at_.find(found->second.peer);
  if (at == at_.end()) return EndSend(name, absl::UnavailableError("no link"));
  Receiving* peer = PeerOf(found->second, name);
  if (peer == nullptr) {
    events_->After(kPark, [this, name] {
      const auto still = sends_.find(name);
      if (still == sends_.end() || PeerOf(still->second, name) != nullptr) return;
      EndSend(name, absl::UnavailableError("the peer had not heard of it"));
    });
    return;
  }
  if (peer->asked) peer->asked();
  if (fails_ == 0 || !events_->OneIn(fails_)) return;
  events_->After(Delay(), [this, name, life = peer->life, late = events_->OneIn(2)] {
    EndSend(name, late ? absl::DeadlineExceededError("the peer's lease ended")
                       : absl::UnavailableError("the link broke"));
    EndReceive({name, life}, late ? absl::DeadlineExceededError("the sender's lease ended")
                                  : absl::DataLossError("a digest is wrong"));
  });
}

void SimHandoffs::Deliver(const Name& name) {
  const auto found = sends_.find(name);
  if (found == sends_.end() || found->second.ending || !found->second.first_tokens) return;
  Receiving* peer = PeerOf(found->second, name);
  if (peer == nullptr || !peer->done || peer->ending) return;
  Copy(found->second, *peer);
  const uint64_t bytes = found->second.blocks.size() * found->second.memory->layout().slice_bytes();
  peer->ending = found->second.ending = true;
  events_->After(Delay(), [this, at = ReceiverName(name, peer->life), bytes,
                           tokens = *found->second.first_tokens] {
    const auto receiver = receives_.find(at);
    if (receiver == receives_.end()) return;
    const HandoffReceiver::Done done = std::move(receiver->second.done);
    receives_.erase(receiver);
    done(HandoffReceived{tokens, bytes});
  });
  events_->After(Delay(), [this, name, bytes] {
    const auto sender = sends_.find(name);
    if (sender == sends_.end()) return;
    const HandoffSender::Done done = std::move(sender->second.done);
    sends_.erase(sender);
    done(HandoffSent{bytes, absl::Milliseconds(1)});
  });
}

void SimHandoffs::EndSend(const Name& name, absl::Status why) {
  const auto found = sends_.find(name);
  if (found == sends_.end() || found->second.ending) return;
  found->second.ending = true;
  events_->After(Delay(), [this, name, why = std::move(why)] {
    const auto sender = sends_.find(name);
    if (sender == sends_.end()) return;
    const HandoffSender::Done done = std::move(sender->second.done);
    sends_.erase(sender);
    done(why);
  });
}

void SimHandoffs::EndReceive(const ReceiverName& name, absl::Status why) {
  const auto found = receives_.find(name);
  if (found == receives_.end() || !found->second.done || found->second.ending) return;
  found->second.ending = true;
  events_->After(Delay(), [this, name, why = std::move(why)] {
    const auto receiver = receives_.find(name);
    if (receiver == receives_.end()) return;
    const HandoffReceiver::Done done = std::move(receiver->second.done);
    receives_.erase(receiver);
    done(why);
  });
}

void SimHandoffs::Copy(const Sending& from, const Receiving& to) {
  const size_t bytes = from.memory->layout().slice_bytes();
  if (from.memory->layout().kv_abi != to.memory->layout().kv_abi) {
    faults.emplace_back("KV of other weights");
  }
  if (from.blocks.size() != to.blocks.size()) faults.emplace_back("prompts of unequal length");
  for (const auto& [layer, taken] : from.taken) {
    for (size_t i = to.held_blocks; i < to.blocks.size(); ++i) {
      const auto slice = absl::MakeConstSpan(taken).subspan(i * bytes, bytes);
      if (slice.size() != bytes) faults.push_back(absl::StrCat("block ", i, " was not ready"));
      std::copy(slice.begin(), slice.end(), to.memory->Slice(layer, to.blocks[i]).begin());
    }
  }
}

void SimHandoffs::Died(LifeId life) {
  std::erase_if(at_, [life](const auto& entry) { return entry.second == life; });
  for (auto it = receives_.begin(); it != receives_.end();) {
    const bool gone = it->first.second == life;
    if (gone) EndSend(it->first.first, absl::UnavailableError("the peer died"));
    it = gone ? receives_.erase(it) : std::next(it);
  }
  for (auto it = sends_.begin(); it != sends_.end();) {
    const bool gone = it->second.life == life;
    if (gone) {
      for (auto& [name, receiving] : receives_) {
        if (name.first == it->first) EndReceive(name, absl::UnavailableError("the link broke"));
      }
    }
    it = gone ? sends_.erase(it) : std::next(it);
  }
}

void SimHandoffs::Break() {
  const absl::Status why = absl::UnavailableError("the link broke");
  for (const auto& [name, sending] : sends_) EndSend(name, why);
  for (const auto& [name, receiving] : receives_) EndReceive(name, why);
}

size_t SimHandoffs::open() const { return sends_.size() + receives_.size(); }

}  // namespace tandem
