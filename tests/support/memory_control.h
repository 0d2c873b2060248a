#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "kvstore/handoff/receiver.h"
#include "kvstore/handoff/sender_link.h"
#include "kvstore/transport/transport.h"

namespace tandem {

// How a control stream mistreats messages: worse than gRPC ever does.
struct ControlFaults {
  uint32_t seed = 1;
  double lose = 0, repeat = 0, swap = 0;  // probabilities; swap: delivered after the next one
  std::function<bool(const ToReceiver&)> drop_to_receiver;  // chosen ones
  std::function<bool(const ToSender&)> drop_to_sender;
};

// Delivers messages one at a time, through the faults.
template <typename Message>
class FaultyWire {
 public:
  FaultyWire(const ControlFaults& faults, std::function<bool(const Message&)> drop,
             std::function<void(const Message&)> deliver)
      : faults_(faults), random_(faults.seed), drop_(std::move(drop)), deliver_(deliver) {}

  void Carry(const Message& message) {
    MutexLock lock(&mu_);
    if (ended_ || (drop_ && drop_(message)) || Roll(faults_.lose)) return;
    if (!held_.has_value() && Roll(faults_.swap)) {
      held_ = message;
      return;
    }
    deliver_(message);
    if (Roll(faults_.repeat)) deliver_(message);
    if (held_.has_value()) deliver_(*std::exchange(held_, std::nullopt));
  }
  void End(const std::function<void()>& last) {  // `last` runs after all deliveries, once
    MutexLock lock(&mu_);
    if (std::exchange(ended_, true)) return;
    last();
  }

 private:
  bool Roll(double probability) {
    return std::uniform_real_distribution<>(0, 1)(random_) < probability;
  }

  const ControlFaults faults_;
  std::mt19937 random_;
  const std::function<bool(const Message&)> drop_;
  const std::function<void(const Message&)> deliver_;
  Mutex mu_;
  std::optional<Message> held_;
  bool ended_ = false;
};

// Both directions of one control stream in memory.
struct MemoryStream {
  MemoryStream(Receiver* receiver, const LinkName& link, const ControlEvents& events,
               const ControlFaults& faults)
      : to_receiver(faults, faults.drop_to_receiver,
                    [receiver, link](const ToReceiver& m) { receiver->OnMessage(link, m); }),
        to_sender(faults, faults.drop_to_sender,
                  [events, link](const ToSender& m) { events.on_message(link, m); }),
        end_receiver([receiver, link] {
          receiver->OnControlClosed(link, absl::UnavailableError("the stream ended"));
        }),
        end_sender([events, link] {
          events.on_closed(link, absl::UnavailableError("the stream ended"));
        }) {}
  void End() {
    to_receiver.End(end_receiver);
    to_sender.End(end_sender);
  }

  FaultyWire<ToReceiver> to_receiver;
  FaultyWire<ToSender> to_sender;
  std::function<void()> end_receiver, end_sender;
};

class MemorySenderChannel final : public ControlChannel<ToReceiver> {
 public:
  explicit MemorySenderChannel(std::shared_ptr<MemoryStream> stream) : stream_(std::move(stream)) {}
  ~MemorySenderChannel() override { stream_->End(); }
  void Send(ToReceiver message) override { stream_->to_receiver.Carry(message); }
  void Close(const absl::Status&) override { stream_->End(); }

 private:
  const std::shared_ptr<MemoryStream> stream_;
};

class MemoryReceiverChannel final : public ControlChannel<ToSender> {
 public:
  explicit MemoryReceiverChannel(std::shared_ptr<MemoryStream> stream)
      : stream_(std::move(stream)) {}
  void Send(ToSender message) override { stream_->to_sender.Carry(message); }
  void Close(const absl::Status&) override { stream_->End(); }

 private:
  const std::shared_ptr<MemoryStream> stream_;
};

// The control service of receivers in this process, by address.
class MemoryControlDoor final : public ControlDoor {
 public:
  void Register(const std::string& address, Receiver* receiver) {
    MutexLock lock(&mu_);
    receivers_[address] = receiver;
  }
  // The receiver's process dies: its streams end, and nobody answers at the address.
  void Crash(const std::string& address) {
    std::vector<std::shared_ptr<MemoryStream>> streams;
    {
      MutexLock lock(&mu_);
      receivers_.erase(address);
      streams = std::exchange(streams_, {});
    }
    for (const auto& stream : streams) stream->End();
  }
  void SetFaults(const ControlFaults& faults) {
    MutexLock lock(&mu_);
    faults_ = faults;
  }

  absl::StatusOr<LinkGrant> Link(const std::string& peer, const LinkOffer& offer,
                                 absl::Time) override {
    MutexLock lock(&mu_);
    const auto found = receivers_.find(peer);
    if (found == receivers_.end()) return absl::UnavailableError("nobody at " + peer);
    return found->second->AcceptLink(offer);
  }
  absl::StatusOr<std::shared_ptr<ControlChannel<ToReceiver>>> Open(const std::string& peer,
                                                                   const LinkName& link,
                                                                   ControlEvents events,
                                                                   absl::Time) override {
    MutexLock lock(&mu_);
    const auto found = receivers_.find(peer);
    if (found == receivers_.end()) return absl::UnavailableError("nobody at " + peer);
    ++faults_.seed;
    auto stream = std::make_shared<MemoryStream>(found->second, link, events, faults_);
    const absl::Status attached =
        found->second->Attach(link, std::make_shared<MemoryReceiverChannel>(stream));
    if (!attached.ok()) return attached;
    streams_.push_back(stream);
    return std::make_shared<MemorySenderChannel>(std::move(stream));
  }

 private:
  Mutex mu_;
  std::map<std::string, Receiver*> receivers_ ABSL_GUARDED_BY(mu_);
  std::vector<std::shared_ptr<MemoryStream>> streams_ ABSL_GUARDED_BY(mu_);
  ControlFaults faults_ ABSL_GUARDED_BY(mu_);
};

// A transport whose connections lead through a proxy.
class ReroutedTransport final : public Transport {
 public:
  explicit ReroutedTransport(std::unique_ptr<Transport> inner) : inner_(std::move(inner)) {}
  void set_detour(const std::string& address) { detour_ = address; }

  const TransportCapabilities& capabilities() const override { return inner_->capabilities(); }
  std::string address() const override { return inner_->address(); }
  absl::StatusOr<std::unique_ptr<PushConnection>> Connect(const TransportEndpoint& peer,
                                                          absl::Time deadline) override {
    TransportEndpoint detour = peer;
    if (!detour_.empty()) detour.address = detour_;
    return inner_->Connect(detour, deadline);
  }
  absl::Status Admit(const Landing& landing, FrameSink* sink) override {
    return inner_->Admit(landing, sink);
  }
  void Retire(const LinkName& link) override { inner_->Retire(link); }

 private:
  const std::unique_ptr<Transport> inner_;
  std::string detour_;
};

}  // namespace tandem
