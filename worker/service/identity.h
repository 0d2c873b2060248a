#pragma once
#include <string>
#include <vector>

#include "base/ids.h"
#include "kvstore/types.h"
#include "tandem/worker/v1/worker.pb.h"
#include "worker/model/assets.h"
#include "worker/model/spec.h"

namespace tandem {

// Hex SHA-256 over all that two workers must share for their KV blocks to be interchangeable byte
// for byte. Block size and tensor-parallel degree are not in it: links compare these apart.
std::string KvAbi(const KvLayout& layout);

// What a worker calls its model when the configuration does not: the file's name without ".gguf",
// or the folder's.
std::string ModelNameOf(const std::string& path);

// What a worker's hello says of the model and the pool; address, role and limits are the caller's.
worker::v1::WorkerInfo MakeWorkerInfo(const ModelSpec& spec, const KvLayout& layout,
                                      const ModelAssets& assets, uint32_t blocks);

}  // namespace tandem
