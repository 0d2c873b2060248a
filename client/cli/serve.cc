#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/process.h"
#include "client/cli/cluster.h"
#include "client/cli/commands.h"
#include "client/cli/flags.h"
#include "client/cli/terminal.h"

namespace tandem::cli {
namespace {

constexpr char kHelp[] =
    "tandem serve --model M [FLAGS]: a whole cluster on this machine, until Ctrl-C\n"
    "  tandem serve --model model.gguf --listen 127.0.0.1:9000\n"
    "One process that dies ends the others.\n";
constexpr absl::Duration kDrain = absl::Seconds(60);

// Whole or not at all, like base/process.h's; this one holds a list too.
absl::Status WriteFile(const std::string& path, const std::string& text) {
  const std::string unfinished = path + ".new";
  std::ofstream file(unfinished);
  file << text << "\n";
  file.close();
  if (file && std::rename(unfinished.c_str(), path.c_str()) == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("cannot write the ready file ", path));
}

void ShowProcesses(const Cluster& cluster) {
  for (const Cluster::Process& process : cluster.processes()) {
    std::string line = absl::StrFormat("%-8s", process.role);
    for (const auto& [name, address] : process.addresses) {
      absl::StrAppend(&line, " ", name, " ",
                      name == "metrics" ? absl::StrCat("http://", address, "/metrics") : address);
    }
    Note(absl::StrCat(line, " pid ", process.pid));
  }
}

int Serve(const Cluster::Options& options, const std::string& ready_file) {
  PrepareSignals();
  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  sigprocmask(SIG_BLOCK, &children, nullptr);

  if (!ready_file.empty()) unlink(ready_file.c_str());  // an earlier cluster's
  absl::StatusOr<std::unique_ptr<Cluster>> created = Cluster::Create(options);
  if (!created.ok()) return UsageError("serve", created.status());
  Cluster& cluster = **created;
  const absl::Time start = absl::Now();
  Note(absl::StrCat("loading ", options.model, " ..."));
  absl::Status status = cluster.Start();
  if (status.ok()) {
    ShowProcesses(cluster);
    Note(absl::StrFormat("serving after %.1f s; Ctrl-C stops",
                         absl::ToDoubleSeconds(absl::Now() - start)));
    if (!ready_file.empty()) status = WriteFile(ready_file, cluster.ReadyJson());
  }
  if (status.ok()) status = cluster.Wait();
  Note(absl::StrCat("stopping the cluster: ", status.message()));
  cluster.Stop(kDrain);
  if (absl::IsCancelled(status)) return 0;
  PrintError(status);
  return 1;
}

}  // namespace

int RunServe(Arguments args) {
  Cluster::Options options;
  bool split = false;
  bool unified = false;
  bool help = false;
  std::string ready_file;
  Flags flags;
  flags.Text("model", "M", "a Hugging Face folder or a GGUF file", &options.model);
  flags.Text("name", "N", "what clients call it; default: from the path", &options.name);
  flags.Text("weights", "W", "stored (the default), int8 or int4: quantised on load",
             &options.weights);
  flags.Text("activations", "A", "float32 (the default) or int8: rounds what they multiply",
             &options.activations);
  flags.Switch("split", "a prefill and a decode worker (the default)", &split);
  flags.Switch("unified", "one worker for both", &unified);
  flags.Text("listen", "HOST:PORT", "default 127.0.0.1:9000; port 0 lets the system choose",
             &options.listen);
  flags.Text("metrics", "HOST:PORT", "the router's metrics; default 127.0.0.1:0", &options.metrics);
  flags.Text("ready-file", "F", "written as JSON with every address, once all serve", &ready_file);
  flags.Texts("set", "P.PATH=V", "a setting of process P: router, worker, prefill, decode",
              &options.sets);
  flags.Switch("verbose", "show what the processes log", &options.verbose);
  flags.Switch("help", "show this", &help);
  const absl::StatusOr<std::vector<std::string>> words = flags.Parse(args);
  if (!words.ok()) return UsageError("serve", words.status());
  if (help) {
    PrintAnswer(kHelp + flags.Help());
    return 0;
  }
  absl::Status wrong;
  if (options.model.empty()) wrong = absl::InvalidArgumentError("--model is missing");
  if (!words->empty()) wrong = absl::InvalidArgumentError("unexpected \"" + words->front() + "\"");
  if (split && unified) wrong = absl::InvalidArgumentError("--split and --unified exclude another");
  if (!wrong.ok()) return UsageError("serve", wrong);
  options.split = !unified;
  return Serve(options, ready_file);
}

}  // namespace tandem::cli
