#pragma once
#include <grpcpp/support/server_callback.h>

#include <vector>

#include "tandem/worker/v1/worker.pb.h"
#include "worker/model/assets.h"

namespace tandem {

// Sends the assets that a GetAssets asked for, in chunks of at most 1 MiB. NotFound names a digest
// that the worker does not have. Where `admitted` is not OK, the call ends with it.
//   life    `assets` outlive it; the reactor deletes itself when the call is done
grpc::ServerWriteReactor<worker::v1::GetAssetsResponse>* SendAssets(
    const absl::Status& admitted, const std::vector<Asset>& assets,
    const worker::v1::GetAssetsRequest& request);

}  // namespace tandem
