#include "base/process.h"

#include <pthread.h>
#include <signal.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/nearest.h"

namespace tandem {
namespace {

sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

absl::StatusOr<ProcessArgs> ParseProcessArgs(absl::Span<const char* const> args,
                                             const std::map<std::string, std::string>& shortcuts) {
  std::vector<std::string> known = {"--config",       "--set",  "--ready-file",
                                    "--check-config", "--help", "--version"};
  for (const auto& [flag, path] : shortcuts) known.push_back(flag);
  ProcessArgs parsed;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string arg = args[i];
    const size_t equals = arg.find('=');
    const std::string flag = arg.substr(0, equals);
    if (!absl::c_linear_search(known, flag)) {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown argument \"", flag, "\"; ", Suggest(flag, known)));
    }
    if (arg == "--check-config" || arg == "--help" || arg == "--version") {
      (arg == "--help"      ? parsed.help
       : arg == "--version" ? parsed.version
                            : parsed.check_config) = true;
      continue;
    }
    std::optional<std::string> value;
    if (equals != std::string::npos) {
      value = arg.substr(equals + 1);
    } else if (i + 1 < args.size()) {
      value = args[++i];
    }
    if (!value) return absl::InvalidArgumentError(absl::StrCat(flag, " needs a value after it"));
    if (flag == "--config") {
      parsed.config_file = *value;
    } else if (flag == "--ready-file") {
      parsed.ready_file = *value;
    } else if (flag == "--set") {
      parsed.sets.push_back(*value);
    } else if (const auto found = shortcuts.find(flag); found != shortcuts.end()) {
      parsed.sets.push_back(absl::StrCat(found->second, "=", *value));
    } else {
      return absl::InvalidArgumentError(absl::StrCat(flag, " takes no value"));
    }
  }
  return parsed;
}

absl::Status WriteReadyFile(const std::string& path,
                            const std::map<std::string, std::string>& addresses) {
  if (path.empty()) return absl::OkStatus();
  const std::string unfinished = path + ".new";
  {
    std::ofstream file(unfinished);
    file << nlohmann::json(addresses).dump() << "\n";
    file.close();
    if (file && std::rename(unfinished.c_str(), path.c_str()) == 0) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("cannot write the ready file ", path, ": ", std::strerror(errno)));
}

void PrepareSignals() {
  const sigset_t stop = StopSignals();
  TANDEM_CHECK(pthread_sigmask(SIG_BLOCK, &stop, nullptr) == 0, "signals can be blocked");
  signal(SIGPIPE, SIG_IGN);
}

int WaitForStopSignal() {
  const sigset_t stop = StopSignals();
  int number = 0;
  TANDEM_CHECK(sigwait(&stop, &number) == 0, "SIGTERM and SIGINT can be waited for");
  pthread_sigmask(SIG_UNBLOCK, &stop, nullptr);
  return number;
}

}  // namespace tandem
