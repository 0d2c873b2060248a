#include "client/cli/cluster.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "client/cli/child.h"
#include "client/http_get.h"

namespace tandem::cli {
namespace {

constexpr absl::Duration kTick = absl::Milliseconds(20);
constexpr absl::Duration kLinkTimeout = absl::Seconds(30);  // router to workers, all loaded
constexpr absl::Duration kPageTimeout = absl::Seconds(5);   // a page of a process's metrics port

// The addresses in a ready file; empty until it is there, whole.
std::map<std::string, std::string> ReadAddresses(const std::string& path) {
  std::map<std::string, std::string> addresses;
  std::ifstream file(path);
  if (!file) return addresses;
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  for (const auto& [name, value] : json.items()) {
    if (value.is_string()) addresses[name] = value.get<std::string>();
  }
  return addresses;
}

// How many workers the router is connected with, by its metrics.
int ConnectedWorkers(const std::string& metrics) {
  double workers = 0;
  for (const absl::string_view line : absl::StrSplit(metrics, '\n')) {
    double value = 0;
    if (absl::StartsWith(line, "tandem_workers{") &&
        absl::StrContains(line, "state=\"connected\"") &&
        absl::SimpleAtod(line.substr(line.rfind(' ') + 1), &value)) {
      workers += value;
    }
  }
  return static_cast<int>(workers);
}

// "worker.engine.threads=1" is for prefill, decode and unified workers.
std::optional<std::string> SettingFor(const std::string& role, const std::string& set) {
  for (const std::string& prefix :
       {absl::StrCat(role, "."), std::string(role == "router" ? "router." : "worker.")}) {
    if (absl::StartsWith(set, prefix)) return set.substr(prefix.size());
  }
  return std::nullopt;
}

absl::Status CheckSets(const std::vector<std::string>& sets) {
  for (const std::string& set : sets) {
    const std::string process = set.substr(0, set.find('.'));
    if (process != "router" && process != "worker" && process != "prefill" && process != "decode" &&
        process != "unified") {
      return absl::InvalidArgumentError(
          absl::StrCat("--set ", set,
                       ": begin with router., worker., prefill., decode. or "
                       "unified., as in --set worker.engine.threads=1"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Cluster>> Cluster::Create(Options options) {
  RETURN_IF_ERROR(CheckSets(options.sets));
  std::error_code error;
  const std::filesystem::path model = std::filesystem::canonical(options.model, error);
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat("--model ", options.model, ": ", error.message()));
  }
  options.model = model.string();
  std::string folder =
      (std::filesystem::temp_directory_path(error) / "tandem-serve.XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("cannot make the folder ", folder, ": ", std::strerror(errno)));
  }
  return std::unique_ptr<Cluster>(new Cluster(std::move(options), std::move(folder)));
}

Cluster::Cluster(Options options, std::string folder)
    : options_(std::move(options)), folder_(std::move(folder)) {}

Cluster::~Cluster() {
  Stop(absl::ZeroDuration());
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

absl::Status Cluster::Launch(const std::string& role, const std::vector<std::string>& settings) {
  ASSIGN_OR_RETURN(const std::string program,
                   ProgramBeside(role == "router" ? "tandem-router" : "tandem-worker"));
  Process process{.role = role, .ready_file = absl::StrCat(folder_, "/", role, ".json")};
  std::vector<std::string> command = {program, "--ready-file", process.ready_file};
  const auto add = [&command](const std::string& setting) {
    command.push_back("--set");
    command.push_back(setting);
  };
  add(absl::StrCat("observability.log_level=", options_.verbose ? "info" : "warning"));
  for (const std::string& setting : settings) add(setting);
  for (const std::string& set : options_.sets) {
    if (const std::optional<std::string> setting = SettingFor(role, set)) add(*setting);
  }
  ASSIGN_OR_RETURN(process.pid, StartChild(command));
  processes_.push_back(std::move(process));
  return absl::OkStatus();
}

absl::Status Cluster::Start() {
  const std::vector<std::string> roles = options_.split
                                             ? std::vector<std::string>{"prefill", "decode"}
                                             : std::vector<std::string>{"unified"};
  for (const std::string& role : roles) {
    std::vector<std::string> settings = {
        absl::StrCat("role=", role), absl::StrCat("model.path=", options_.model),
        "server.listen=127.0.0.1:0", "kv.transfer_listen=127.0.0.1:0",
        "observability.listen=127.0.0.1:0"};
    const std::pair<const char*, std::string> more[] = {
        {"model.name", options_.name},
        {"model.weights", options_.weights},
        {"model.activations", options_.activations}};
    for (const auto& [path, value] : more) {
      if (!value.empty()) settings.push_back(absl::StrCat(path, "=", value));
    }
    RETURN_IF_ERROR(Launch(role, settings));
  }
  RETURN_IF_ERROR(AwaitReadyFiles());
  std::vector<std::string> workers;
  for (const Process& process : processes_) workers.push_back(process.addresses.at("grpc"));
  RETURN_IF_ERROR(Launch("router", {absl::StrCat("server.listen=", options_.listen),
                                    absl::StrCat("observability.listen=", options_.metrics),
                                    absl::StrCat("store.sqlite_file=", folder_, "/tandem.db"),
                                    absl::StrCat("workers=[", absl::StrJoin(workers, ", "), "]")}));
  std::rotate(processes_.begin(), processes_.end() - 1, processes_.end());
  RETURN_IF_ERROR(AwaitReadyFiles());
  return AwaitWorkersAtRouter();
}

absl::Status Cluster::AwaitReadyFiles() {
  for (Process& process : processes_) {
    while (process.addresses.count("grpc") == 0) {
      process.addresses = ReadAddresses(process.ready_file);
      RETURN_IF_ERROR(Watch(process.addresses.empty() ? kTick : absl::ZeroDuration()));
    }
  }
  return absl::OkStatus();
}

// Asks its metrics port, which is the same however clients have to prove themselves.
absl::Status Cluster::AwaitWorkersAtRouter() {
  const std::string& port = processes_.front().addresses["metrics"];
  const int expected = static_cast<int>(processes_.size()) - 1;
  const absl::Time deadline = absl::Now() + kLinkTimeout;
  while (true) {
    ASSIGN_OR_RETURN(const HttpPage ready, HttpGet(port, "/readyz", kPageTimeout));
    ASSIGN_OR_RETURN(const HttpPage metrics, HttpGet(port, "/metrics", kPageTimeout));
    const int workers = ConnectedWorkers(metrics.body);
    if (ready.status == 200 && workers >= expected) return absl::OkStatus();
    if (absl::Now() > deadline) {
      return absl::UnavailableError(absl::StrCat(
          "the router is connected with ", workers, " of ", expected, " workers after ",
          absl::FormatDuration(kLinkTimeout), ", and says ", ready.body));
    }
    RETURN_IF_ERROR(Watch(kTick));
  }
}

absl::Status Cluster::Wait() {
  while (true) RETURN_IF_ERROR(Watch(absl::Seconds(1)));
}

absl::Status Cluster::Watch(absl::Duration timeout) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGINT, SIGTERM, SIGCHLD}) sigaddset(&signals, number);
  const timespec wait = absl::ToTimespec(timeout);
  const int number = sigtimedwait(&signals, nullptr, &wait);
  absl::Status result;
  while (const std::optional<ChildEnd> end = NextEndedChild()) {
    for (Process& process : processes_) {
      if (process.pid != end->pid) continue;
      if (result.ok()) {
        result = absl::UnavailableError(absl::StrCat("the ", process.role, " process (pid ",
                                                     process.pid, ") ", end->ToString()));
      }
      process.pid = 0;
    }
  }
  if (number == SIGINT || number == SIGTERM) return absl::CancelledError(strsignal(number));
  return result;
}

void Cluster::Stop(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  for (Process& process : processes_) Terminate(&process, deadline);
}

void Cluster::Terminate(Process* process, absl::Time deadline) {
  if (process->pid == 0) return;
  kill(process->pid, SIGTERM);
  bool patient = true;
  while (process->pid != 0) {
    if (patient && absl::Now() >= deadline) patient = false;
    if (!patient) kill(process->pid, SIGKILL);
    if (absl::IsCancelled(Watch(kTick))) patient = false;
  }
}

std::string Cluster::ReadyJson() const {
  const auto describe = [](const Process& process) {
    nlohmann::ordered_json json;
    for (const auto& [name, address] : process.addresses) json[name] = address;
    json["pid"] = process.pid;
    return json;
  };
  nlohmann::ordered_json json = describe(processes_.front());
  for (size_t i = 1; i < processes_.size(); ++i) {
    nlohmann::ordered_json worker = {{"role", processes_[i].role}};
    worker.update(describe(processes_[i]));
    json["workers"].push_back(worker);
  }
  return json.dump();
}

}  // namespace tandem::cli
