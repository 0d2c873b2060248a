#pragma once
#include <memory>

#include "base/certificates.h"

namespace grpc {
class ChannelCredentials;
class ServerCredentials;
}  // namespace grpc

namespace tandem {

// TLS for gRPC that follows `certificates`: a connection that is made after they changed uses the
// new ones, others go on. May be used for any number of servers or channels.
//   life    keeps `certificates` as long as gRPC uses them
//
// A server asks for a client's certificate if there is a CA, and then it has to have one of the
// peer names. A channel wants one of the peer names in the server's certificate, or, where there
// are none, the host that it was made for.
std::shared_ptr<grpc::ServerCredentials> TlsServerCredentials(
    std::shared_ptr<const Certificates> certificates);
std::shared_ptr<grpc::ChannelCredentials> TlsChannelCredentials(
    std::shared_ptr<const Certificates> certificates);

}  // namespace tandem
