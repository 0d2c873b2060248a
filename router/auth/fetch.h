#pragma once
#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace tandem {

struct FetchOptions {
  std::string ca_file;  // PEM; empty: the system's authorities
  absl::Duration timeout = absl::Seconds(10);
  size_t bytes_max = 1 << 20;
};

// Whether FetchUrl may be asked for it: https, or http on this machine. InvalidArgument if not.
absl::Status CheckFetchUrl(const std::string& url);

// What a GET answers. It waits, follows no redirection, and uses no proxy but those of the
// environment (https_proxy, no_proxy).
//   errors  InvalidArgument a URL as above; Unavailable everything else, with the reason
absl::StatusOr<std::string> FetchUrl(const std::string& url, const FetchOptions& options);

}  // namespace tandem
