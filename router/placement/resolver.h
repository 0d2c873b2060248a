#pragma once
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem {

// The addresses ("ip:port", sorted, without doubles) behind "name:port". Blocks for as long as the
// system's resolver does. Unavailable says what the resolver said.
absl::StatusOr<std::vector<std::string>> ResolveName(const std::string& name_and_port);

using Resolver =
    std::function<absl::StatusOr<std::vector<std::string>>(const std::string& name_and_port)>;

}  // namespace tandem
