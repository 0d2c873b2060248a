#pragma once
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "router/api/relay.h"
#include "router/placement/policy.h"
#include "router/placement/worker_channel.h"

namespace tandem {

// A request as it goes to its workers, but for what differs between attempts, and between workers.
struct DispatchOrder {
  PlacementCall call;
  // Made once workers are found: a request may have to wait for them for long.
  std::function<worker::v1::Submit()> submit;
};

using ChannelOf = std::function<std::shared_ptr<WorkerChannel>(size_t worker)>;

// Chooses workers for an attempt and makes the relay's legs to them.
//   errors  Pick's
absl::Status DispatchAttempt(const RelayAttempt& attempt, DispatchOrder order,
                             absl::Span<const WorkerView> workers, const ChannelOf& channel,
                             Relay* relay);

}  // namespace tandem
