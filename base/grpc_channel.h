#pragma once
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "tandem/config/v1/server.pb.h"

namespace grpc {
class Channel;
class ChannelCredentials;
}  // namespace grpc

namespace tandem {

// How to call processes as the section says: without `ca_file` there is no TLS. One object serves
// any number of channels, and follows its files (base/certificates.h).
//   section  where `tls` is in the configuration, for errors; empty: it is in none
//   errors   as TlsSettingsOf and Certificates::Watch
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const config::v1::ClientTlsConfig& tls, const std::string& section);

// What a process that calls another needs to know.
struct ChannelOptions {
  std::shared_ptr<grpc::ChannelCredentials> credentials = nullptr;  // null: no TLS
  // Of one message received. One that is sent is limited by its receiver.
  size_t max_message_bytes = 4 << 20;
  // The name that the server's certificate has to be for; empty: the target's host.
  std::string server_name = {};
};

// A channel to "host:port" with keepalive pings every 10 s, so that a peer that vanished without a
// word is noticed within 20 s, calls or none. It has a connection of its own, which no other
// channel shares. Connects when first used; no proxy from the environment is used.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& target,
                                           const ChannelOptions& options);

// gRPC's callbacks run on threads of its own, which end with the last channel or server that used
// them. The library lets whoever drops that last one join them and free their queue, even where it
// is one of these threads that does so, at the end of a callback: it then goes on in freed memory.
// After this call they live as long as the process. MakeChannel and GrpcServer::Start call it.
void KeepCallbackThreads();

}  // namespace tandem
