// tandem-worker: runs a model. Token ids in, token ids out.
#include <cstdlib>

#include "absl/strings/string_view.h"
#include "base/log.h"
#include "base/process.h"
#include "base/startup.h"
#include "worker/inspect_command.h"
#include "worker/worker.h"

namespace {

int Run(const tandem::Startup<tandem::config::v1::WorkerConfig>& startup) {
  auto worker = tandem::Worker::Start(startup.config);
  if (!worker.ok()) {
    tandem::LogError("the worker can't start", {{"error", worker.status()}});
    return EXIT_FAILURE;
  }
  const std::map<std::string, std::string> addresses = (*worker)->addresses();
  tandem::LogInfo("the worker serves", {{"grpc", addresses.at("grpc")},
                                        {"metrics", addresses.at("metrics")},
                                        {"kv", addresses.at("kv")}});
  const absl::Status ready = tandem::WriteReadyFile(startup.args.ready_file, addresses);
  if (!ready.ok()) {
    tandem::LogError("the worker can't start", {{"error", ready}});
    return EXIT_FAILURE;
  }
  tandem::WaitForStopSignal();
  (*worker)->Drain();
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
  tandem::PrepareSignals();
  if (argc > 1 && absl::string_view(argv[1]) == "--inspect") {
    return tandem::RunInspect({argv + 2, static_cast<size_t>(argc - 2)});
  }
  const tandem::ProgramInfo program = {
      .name = "tandem-worker",
      .summary =
          "Runs a model for a tandem-router. --inspect PATH [--json] [--quant int8|int4] only "
          "describes one.",
      .shortcuts = {{"--role", "role"}, {"--backend", "backend"}, {"--model", "model.path"}}};
  const auto startup = tandem::Start<tandem::config::v1::WorkerConfig>(program, argc, argv);
  return startup.exit_status ? *startup.exit_status : Run(startup);
}
