#pragma once
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/address.h"
#include "base/clock.h"
#include "tandem/config/v1/router.pb.h"

namespace tandem {

// A whole router: serves the public API and keeps sessions to the workers.
//   life    serves from Start() until Drain() or the destructor, which cuts off what still runs
//   errors  InvalidArgument names the option at fault; FailedPrecondition: an address can't be
//           listened on
//   threads any
class Router {
 public:
  static absl::StatusOr<std::unique_ptr<Router>> Start(const config::v1::RouterConfig& config,
                                                       const Clock* clock = RealClock());
  ~Router();

  HostPort grpc_address() const;
  HostPort metrics_address() const;
  std::string MetricsText() const;

  // Takes no new request, lets those that run finish within the configured time, ends the rest with
  // UNAVAILABLE, and stops serving.
  void Drain();

 private:
  struct Parts;
  explicit Router(std::unique_ptr<Parts> parts);

  const std::unique_ptr<Parts> parts_;
};

}  // namespace tandem
