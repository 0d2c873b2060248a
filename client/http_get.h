#pragma once
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace tandem {

struct HttpPage {
  int status = 0;  // such as 200
  std::string body;
};

// One page of a process's HTTP port (base/observability.h): its metrics, or whether it is ready.
//   errors  Unavailable where nothing answers "host:port", or what answers is not HTTP;
//           ResourceExhausted for a page above 16 MiB
//   threads any; blocks for up to `timeout` a read
absl::StatusOr<HttpPage> HttpGet(const std::string& endpoint, absl::string_view path,
                                 absl::Duration timeout);

}  // namespace tandem
