#pragma once
#include <map>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "router/placement/worker_facts.h"

namespace grpc {
class Channel;
class ClientContext;
}  // namespace grpc

namespace tandem {

// A model's files by name. Shared: two revisions often have the same tokenizer.
using Assets = std::map<std::string, std::shared_ptr<const std::string>>;

// Gets what a model needs beside its weights from a worker, and keeps it by digest, so that each
// file crosses the network once however many workers have it.
//   limits  1 GiB a fetch; a file is kept for as long as someone holds it
//   errors  Unavailable when the worker can't be asked; FailedPrecondition when what it sent is not
//           what it announced (names the file)
//   threads any; Fetch blocks its caller until the files are here, `timeout` has passed, or Cancel
class AssetClient {
 public:
  absl::StatusOr<Assets> Fetch(const std::shared_ptr<grpc::Channel>& channel,
                               const WorkerFacts& worker, absl::Duration timeout)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Every Fetch fails from now on, also those that wait.
  void Cancel() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  class Running;  // one call, which Cancel can reach

  Mutex mu_;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_set<grpc::ClientContext*> running_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<std::string, std::weak_ptr<const std::string>> by_digest_
      ABSL_GUARDED_BY(mu_);
};

}  // namespace tandem
