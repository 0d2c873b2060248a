#pragma once
#include <cstdio>
#include <string>

#include "absl/status/statusor.h"

namespace tandem::cli {

// All of it, but no more than a request may have and a little, so that a router says that it is too
// much. Errors say why it can't be read, as the system does.
absl::StatusOr<std::string> ReadText(std::FILE* file);
absl::StatusOr<std::string> ReadTextFile(const std::string& path);  // errors name the path

}  // namespace tandem::cli
