#pragma once
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/types/span.h"
#include "base/config.h"
#include "base/process.h"

namespace tandem {

// What tells one server program from another when it starts.
struct ProgramInfo {
  std::string name;                              // "tandem-worker"
  std::string summary;                           // one line of --help
  std::map<std::string, std::string> shortcuts;  // see ParseProcessArgs
};

// Reads arguments and file into `config`, whose field `observability` also decides how the process
// logs. Returns the exit status when there is nothing more to do: after --help, --version and
// --check-config (which prints the configuration that results), and with 1 after an error, which is
// told on stderr.
std::optional<int> ReadStartup(const ProgramInfo& program, absl::Span<const char* const> args,
                               ProcessArgs* parsed, google::protobuf::Message* config);

template <typename Config>
struct Startup {
  std::optional<int> exit_status;  // if set, main() returns it, and `config` is not to be used
  ProcessArgs args;
  Config config;
};

template <typename Config>
Startup<Config> Start(const ProgramInfo& program, int argc, char** argv) {
  Startup<Config> startup;
  startup.exit_status = ReadStartup(
      program, absl::MakeConstSpan(argv + 1, static_cast<size_t>(argc > 0 ? argc - 1 : 0)),
      &startup.args, &startup.config);
  return startup;
}

}  // namespace tandem
