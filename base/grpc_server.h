#pragma once
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/address.h"
#include "tandem/config/v1/server.pb.h"

namespace grpc {
class Service;
}

namespace tandem {

// A gRPC server as the section `server` of a configuration describes it, with health checks
// (grpc.health.v1), and reflection where only this machine can reach it or `reflection` is set.
//   life     serves from Start() to Shutdown(). Health says NOT_SERVING until SetServing(true)
//   errors   InvalidArgument names the option at fault, such as an address that other machines
//            can reach without TLS; FailedPrecondition: the address can't be listened on
//   threads  any
class GrpcServer {
 public:
  struct Options {
    std::vector<grpc::Service*> services;  // not owned; outlive the server
    // Of one message received. One that is sent is limited by its receiver.
    size_t max_message_bytes = 4 << 20;
    size_t max_buffer_bytes = 0;  // of gRPC's own buffers, over all connections; 0: no limit
  };
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const config::v1::ServerConfig& config,
                                                           const Options& options);
  ~GrpcServer();  // Shutdown() within a second, if that has not been called

  // Where it listens, with the port that the system chose when the configuration says 0.
  const HostPort& address() const { return address_; }

  void SetServing(bool serving);

  // Takes no new call, waits up to `grace` for those that run, then cancels them. Returns when all
  // are finished: reactors have to answer OnCancel() with Finish().
  void Shutdown(absl::Duration grace);

 private:
  struct Impl;  // keeps grpc++ out of this header
  GrpcServer(HostPort address, std::unique_ptr<Impl> impl);
  const HostPort address_;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
