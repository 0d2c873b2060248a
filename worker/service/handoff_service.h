#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/ids.h"
#include "kvstore/handoff/handoff.h"
#include "kvstore/handoff/receiver.h"
#include "kvstore/handoff/sender.h"
#include "kvstore/types.h"
#include "worker/service/worker_tls.h"

namespace grpc {
class Service;
}

// How a worker gets its handoffs:
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Handoffs> handoffs, MakeHandoffs(kv_memory, options));
//   server_options.services.push_back(handoffs->service());      // kv.v1.HandoffService
//   engine_options.sender = handoffs->sender();                  // prefill
//   engine_options.receiver = handoffs->receiver();              // decode
//
// and at the end: stop the engine, shut the gRPC server down, destroy `handoffs`, then the memory.
namespace tandem {

struct HandoffOptions {
  Incarnation incarnation{};                    // of this process; also in its worker.v1 hello
  std::string name;                             // this worker's address, for the peers' logs
  std::string transfer_listen = "127.0.0.1:0";  // kv.transfer_listen
  std::string advertise_host;                   // kv.advertise_host: numeric, or empty
  uint32_t connections = 2;                     // kv.connections: of a link by tcp
  bool shm = true;                              // kv.shm
  std::string shm_directory;                    // kv.shm_directory; empty: this user's own
  WorkerTls tls;                                // of control, and of KV over tcp
  bool insecure = false;             // server.insecure: allows both off loopback without TLS
  uint64_t window_bytes = 32 << 20;  // kv.window_bytes
  absl::Duration push_timeout = absl::Seconds(10);  // kv.push_timeout: of one frame
  uint32_t max_unlinked_streams = 64;               // control streams that have named no link yet
  absl::Duration unlinked_timeout = absl::Seconds(5);  // that such a stream may last
  std::function<void(SenderState, absl::Duration)> on_phase = [](SenderState, absl::Duration) {};
};

// Both directions of handoff in one process, their transports and their gRPC service.
//   life    the gRPC server is shut down before it is destroyed; the memory outlives it
class Handoffs {
 public:
  virtual ~Handoffs() = default;
  virtual HandoffSender* sender() = 0;
  virtual HandoffReceiver* receiver() = 0;
  virtual grpc::Service* service() = 0;
  virtual std::string transport_address() const = 0;  // tcp's: "127.0.0.1:9101"
  virtual SenderCounters sent() const = 0;
  virtual ReceiverCounters received() const = 0;
};

// Without shm_directory, shm is offered only if the default folder can be used; the log says so if
// not. The status names the configuration's field.
//   errors  InvalidArgument an address off loopback without TLS or `insecure`, or a
//           shm_directory that cannot be used; Unavailable the port is taken
absl::StatusOr<std::unique_ptr<Handoffs>> MakeHandoffs(BlockMemory* memory,
                                                       const HandoffOptions& options);

}  // namespace tandem
