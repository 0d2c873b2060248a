#pragma once
#include <map>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "router/placement/worker_facts.h"

namespace grpc {
class Channel;
}

namespace tandem {

// A model's files by name. Shared: two revisions often have the same tokenizer.
using Assets = std::map<std::string, std::shared_ptr<const std::string>>;

// Gets what a model needs beside its weights from a worker, and keeps it by digest, so that each
// file crosses the network once however many workers have it.
//   limits  1 GiB a fetch; a file is kept for as long as someone holds it
//   errors  Unavailable when the worker can't be asked; FailedPrecondition when what it sent is not
//           what it announced (names the file)
//   threads any; Fetch blocks its caller until the files are here or `timeout` has passed
class AssetClient {
 public:
  absl::StatusOr<Assets> Fetch(const std::shared_ptr<grpc::Channel>& channel,
                               const WorkerFacts& worker, absl::Duration timeout)
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  Mutex mu_;
  absl::flat_hash_map<std::string, std::weak_ptr<const std::string>> by_digest_
      ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem
