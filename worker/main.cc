// tandem-worker: runs a model. Token ids in, token ids out.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/string_view.h"
#include "base/log.h"
#include "base/process.h"
#include "base/startup.h"
#include "worker/model/inspect.h"
#include "worker/worker.h"

namespace {

// tandem-worker --inspect PATH [--json]
int InspectModel(int argc, char** argv) {
  const bool json = argc == 4 && absl::string_view(argv[3]) == "--json";
  if (argc < 3 || argc > 4 || (argc == 4 && !json)) {
    std::fprintf(stderr, "tandem-worker: want --inspect PATH [--json]\n");
    return EXIT_FAILURE;
  }
  const auto files = tandem::ModelFiles::Open(argv[2]);
  if (!files.ok()) {
    std::fprintf(stderr, "tandem-worker: %s\n", std::string(files.status().message()).c_str());
    return EXIT_FAILURE;
  }
  tandem::InspectOptions options;
  options.memory_bytes =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const tandem::Inspection inspection = tandem::Inspect(**files, options);
  const std::string text =
      json ? tandem::InspectionJson(inspection) + "\n" : tandem::InspectionText(inspection);
  std::fputs(text.c_str(), stdout);
  return EXIT_SUCCESS;
}

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
  if (argc > 1 && absl::string_view(argv[1]) == "--inspect") return InspectModel(argc, argv);
  const tandem::ProgramInfo program = {
      .name = "tandem-worker",
      .summary = "Runs a model for a tandem-router. --inspect PATH [--json] only describes one.",
      .shortcuts = {{"--role", "role"}, {"--backend", "backend"}, {"--model", "model.path"}}};
  const auto startup = tandem::Start<tandem::config::v1::WorkerConfig>(program, argc, argv);
  return startup.exit_status ? *startup.exit_status : Run(startup);
}
