#pragma once
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tandem {

struct HostPort {
  std::string host;  // without the brackets of an IPv6 address
  uint16_t port = 0;

  std::string ToString() const;  // brackets an IPv6 address
};

// "127.0.0.1:9000", "[::1]:9000", "name:9000". InvalidArgument says what is wrong with the text.
absl::StatusOr<HostPort> ParseHostPort(absl::string_view text);

// Whether only this machine can reach the host: 127.0.0.0/8, ::1 or "localhost".
bool IsLoopback(absl::string_view host);

}  // namespace tandem
