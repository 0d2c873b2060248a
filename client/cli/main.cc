#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/nearest.h"
#include "client/cli/commands.h"
#include "client/cli/terminal.h"

namespace tandem::cli {
namespace {

struct Command {
  const char* name;
  const char* summary;
  int (*run)(Arguments);
};

constexpr Command kCommands[] = {
    {"serve", "a whole cluster on this machine", RunServe},
    {"generate", "one prompt, the answer streamed to stdout", RunGenerate},
    {"chat", "a conversation", RunChat},
    {"bench", "load in an open loop, and what it measured", RunBench},
    {"models", "look into a model's files, or list what is served", RunModels},
};

std::string Help() {
  std::string help = "tandem COMMAND [FLAGS]; tandem COMMAND --help tells more\n";
  for (const Command& command : kCommands) {
    std::string name = command.name;
    name.resize(10, ' ');
    absl::StrAppend(&help, "  ", name, command.summary, "\n");
  }
  return help + "  tandem generate \"Why is the sky blue?\"\n";
}

int Run(const std::vector<std::string>& args) {
  if (args.empty() || args[0] == "--help" || args[0] == "help") {
    PrintAnswer(Help());
    return args.empty() ? 2 : 0;
  }
  std::vector<std::string> names;
  for (const Command& command : kCommands) {
    if (args[0] == command.name) return command.run(Arguments(args).subspan(1));
    names.emplace_back(command.name);
  }
  PrintError(absl::InvalidArgumentError(
      absl::StrCat("unknown command \"", args[0], "\"; ", Suggest(args[0], names))));
  return 2;
}

}  // namespace
}  // namespace tandem::cli

int main(int argc, char** argv) {
  return tandem::cli::Run(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
}
