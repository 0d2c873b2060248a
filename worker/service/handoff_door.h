#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "kvstore/handoff/sender_link.h"

namespace grpc {
class Channel;
}

namespace tandem {

// kv.v1.HandoffService of other workers, called over gRPC: one channel a peer.
//   life    the channels that Open returned are destroyed before it
//   threads any
class GrpcControlDoor final : public ControlDoor {
 public:
  // Makes the channel to "host:port".
  using Dial = std::function<absl::StatusOr<std::shared_ptr<grpc::Channel>>(const std::string&)>;
  explicit GrpcControlDoor(Dial dial) : dial_(std::move(dial)) {}

  absl::StatusOr<LinkGrant> Link(const std::string& peer, const LinkOffer& offer,
                                 absl::Time deadline) override;
  absl::StatusOr<std::shared_ptr<ControlChannel<ToReceiver>>> Open(const std::string& peer,
                                                                   const LinkName& link,
                                                                   ControlEvents events,
                                                                   absl::Time deadline) override;

 private:
  absl::StatusOr<std::shared_ptr<grpc::Channel>> ChannelTo(const std::string& peer)
      ABSL_LOCKS_EXCLUDED(mu_);

  static constexpr size_t kMaxChannels = 256;  // beyond it those that no call uses are dropped

  const Dial dial_;
  Mutex mu_;
  std::map<std::string, std::shared_ptr<grpc::Channel>> channels_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem
