#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/nearest.h"
#include "client/cli/child.h"
#include "client/cli/commands.h"
#include "client/cli/endpoint_flags.h"
#include "client/cli/flags.h"
#include "client/cli/terminal.h"
#include "client/client.h"

namespace tandem::cli {
namespace {

constexpr char kHelp[] =
    "tandem models inspect PATH: what a model is, whether it can be served, what its KV costs\n"
    "tandem models list [FLAGS]: what a cluster serves\n"
    "  tandem models inspect model.gguf\n";

int Inspect(const std::string& path) {
  const absl::StatusOr<std::string> worker = ProgramBeside("tandem-worker");
  if (!worker.ok()) {
    PrintError(worker.status());
    return 1;
  }
  execl(worker->c_str(), worker->c_str(), "--inspect", path.c_str(), nullptr);
  PrintError(absl::InternalError(absl::StrCat(*worker, ": ", std::strerror(errno))));
  return 1;
}

int List(const Client::Options& connection) {
  const auto client = Client::Create(connection);
  if (!client.ok()) return UsageError("models", client.status());
  const auto models = (*client)->ListModels();
  if (!models.ok()) {
    PrintError(models.status());
    return 1;
  }
  for (const auto& model : models->models()) {
    PrintAnswer(absl::StrCat(model.name(), "  ", model.architecture(), "  context ",
                             model.max_context(), "  prefill ", model.prefill_workers(),
                             "  decode ", model.decode_workers(), "  unified ",
                             model.unified_workers(), "\n"));
  }
  return 0;
}

}  // namespace

int RunModels(Arguments args) {
  Client::Options connection;
  bool help = false;
  Flags flags;
  DeclareEndpoint(&flags, &connection);  // for list
  flags.Switch("help", "show this", &help);
  const absl::StatusOr<std::vector<std::string>> words = flags.Parse(args);
  if (!words.ok()) return UsageError("models", words.status());
  if (help) {
    PrintAnswer(kHelp + flags.Help());
    return 0;
  }
  if (words->size() == 2 && words->front() == "inspect") return Inspect(words->back());
  if (words->size() == 1 && words->front() == "list") return List(connection);
  const std::string message =
      words->empty() || words->front() == "inspect" || words->front() == "list"
          ? "give inspect PATH, or list"
          : absl::StrCat("unknown \"", words->front(), "\"; ",
                         Suggest(words->front(), {"inspect", "list"}));
  return UsageError("models", absl::InvalidArgumentError(message));
}

}  // namespace tandem::cli
