#pragma once
#include <grpcpp/grpcpp.h>

#include "router/api/generate.h"
#include "tandem/inference/v1/inference.pb.h"

namespace tandem {

// Answer `request` as a stream of deltas, or at once. The reactor owns itself until gRPC is done.
//   order   one write in flight; what comes meanwhile joins the next message
//   threads gRPC's, and any that the relay calls from
grpc::ServerWriteReactor<inference::v1::GenerateResponse>* StartRelayStream(
    const ApiContext& api, grpc::CallbackServerContext* context,
    const inference::v1::GenerateRequest& request);
grpc::ServerUnaryReactor* StartRelayOnce(const ApiContext& api,
                                         grpc::CallbackServerContext* context,
                                         const inference::v1::GenerateRequest& request,
                                         inference::v1::GenerateResponse* response);

}  // namespace tandem
