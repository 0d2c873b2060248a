// tandem-router: the front door of a cluster.
#include <cstdlib>

#include "base/log.h"
#include "base/process.h"
#include "base/startup.h"
#include "router/router.h"

namespace {

int Run(const tandem::Startup<tandem::config::v1::RouterConfig>& startup) {
  auto router = tandem::Router::Start(startup.config);
  if (!router.ok()) {
    tandem::LogError("the router can't start", {{"error", router.status()}});
    return EXIT_FAILURE;
  }
  const std::string grpc = (*router)->grpc_address().ToString();
  const std::string metrics = (*router)->metrics_address().ToString();
  tandem::LogInfo("the router serves", {{"grpc", grpc}, {"metrics", metrics}});
  const absl::Status ready =
      tandem::WriteReadyFile(startup.args.ready_file, {{"grpc", grpc}, {"metrics", metrics}});
  if (!ready.ok()) {
    tandem::LogError("the router can't start", {{"error", ready}});
    return EXIT_FAILURE;
  }
  tandem::WaitForStopSignal();
  (*router)->Drain();
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
  tandem::PrepareSignals();
  const tandem::ProgramInfo program = {
      .name = "tandem-router",
      .summary = "Takes requests in over gRPC and has workers answer them."};
  const auto startup = tandem::Start<tandem::config::v1::RouterConfig>(program, argc, argv);
  return startup.exit_status ? *startup.exit_status : Run(startup);
}
