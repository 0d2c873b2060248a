#pragma once
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tandem {

// What every server process is told on its command line.
struct ProcessArgs {
  std::string config_file;        // --config FILE; empty: the defaults
  std::vector<std::string> sets;  // --set path=value, and shortcuts, in the order given
  std::string ready_file;         // --ready-file FILE; see WriteReadyFile
  bool check_config = false;      // --check-config
  bool help = false;              // --help
  bool version = false;           // --version
};

// `shortcuts` are flags that stand for a setting: {"--role", "role"} makes "--role=decode" (or
// "--role decode") mean "--set role=decode". InvalidArgument names a flag that isn't known, and the
// nearest one.
absl::StatusOr<ProcessArgs> ParseProcessArgs(absl::Span<const char* const> args,
                                             const std::map<std::string, std::string>& shortcuts);

// Tells who started the process that it is ready, and where it listens: one JSON object of strings,
// e.g. {"grpc": "127.0.0.1:40123"}. Appears whole or not at all. An empty path writes nothing.
absl::Status WriteReadyFile(const std::string& path,
                            const std::map<std::string, std::string>& addresses);

// To be called first in main(), while there is one thread: keeps SIGTERM and SIGINT for
// WaitForStopSignal(), and makes a write to a closed connection an error, not a signal.
void PrepareSignals();

// Blocks until SIGTERM or SIGINT comes and returns its number. From then on a second one ends the
// process at once, so that a drain can be cut short.
int WaitForStopSignal();

}  // namespace tandem
