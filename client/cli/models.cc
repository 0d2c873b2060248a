#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
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
    "tandem models inspect PATH [FLAGS]: what a model is, whether it can be served, what its KV\n"
    "costs; with --quant, what quantising its weights on load would do to its predictions\n"
    "tandem models list [FLAGS]: what a cluster serves\n"
    "  tandem models inspect model.gguf\n"
    "  tandem models inspect qwen3-0.6b --quant int8\n";

struct InspectFlags {
  bool json = false;
  std::string quant, text, tokens, activations;

  void Declare(Flags* flags) {
    flags->Switch("json", "inspect: print one JSON object", &json);
    flags->Text("quant", "W", "inspect: compare int8 or int4 weights with the stored ones", &quant);
    flags->Text("text", "FILE", "inspect --quant: on this text, not on the one that is built in",
                &text);
    flags->Text("tokens", "N", "inspect --quant: of the text at most; default 4096", &tokens);
    flags->Text("activations", "A",
                "inspect --quant: float32 (the default) or int8, beside those weights",
                &activations);
  }
};

// Becomes a tandem-worker, which knows models.
int Inspect(const std::string& path, const InspectFlags& flags) {
  const absl::StatusOr<std::string> worker = ProgramBeside("tandem-worker");
  if (!worker.ok()) {
    PrintError(worker.status());
    return 1;
  }
  std::vector<std::string> command = {*worker, "--inspect", path};
  if (flags.json) command.push_back("--json");
  const std::pair<const char*, std::string> values[] = {{"--quant", flags.quant},
                                                        {"--text", flags.text},
                                                        {"--tokens", flags.tokens},
                                                        {"--activations", flags.activations}};
  for (const auto& [flag, value] : values) {
    if (!value.empty()) command.insert(command.end(), {flag, value});
  }
  std::vector<char*> arguments;
  for (std::string& argument : command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  execv(worker->c_str(), arguments.data());
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
  InspectFlags inspect;
  inspect.Declare(&flags);
  DeclareEndpoint(&flags, &connection);  // for list
  flags.Switch("help", "show this", &help);
  const absl::StatusOr<std::vector<std::string>> words = flags.Parse(args);
  if (!words.ok()) return UsageError("models", words.status());
  if (help) {
    PrintAnswer(kHelp + flags.Help());
    return 0;
  }
  if (words->size() == 2 && words->front() == "inspect") {
    return Inspect(words->back(), inspect);
  }
  if (words->size() == 1 && words->front() == "list") return List(connection);
  const std::string message =
      words->empty() || words->front() == "inspect" || words->front() == "list"
          ? "give inspect PATH, or list"
          : absl::StrCat("unknown \"", words->front(), "\"; ",
                         Suggest(words->front(), {"inspect", "list"}));
  return UsageError("models", absl::InvalidArgumentError(message));
}

}  // namespace tandem::cli
