#pragma once
#include <string>

#include "absl/types/span.h"

// The commands of `tandem`. Each takes what follows its name and returns the exit status:
// 0, 1 after an error, 2 where the command line was wrong.
namespace tandem::cli {

using Arguments = absl::Span<const std::string>;

int RunServe(Arguments args);
int RunBench(Arguments args);
int RunChat(Arguments args);
int RunGenerate(Arguments args);
int RunModels(Arguments args);

}  // namespace tandem::cli
