#pragma once
#include <sys/types.h>

#include <string>

#include "absl/time/time.h"

namespace tandem {

// A process that answers Generate as a router does, and does nothing else: what gRPC alone costs.
// Of each request it streams `stopping.max_tokens` messages of one token, one every `interval`, in
// step with the others.
struct BareServer {
  pid_t pid = 0;
  std::string endpoint;
};

// To be called before there is another thread or gRPC is used. The child ends with this process.
BareServer ForkBareServer(absl::Duration interval);

}  // namespace tandem
