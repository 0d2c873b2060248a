#pragma once
#include <sys/types.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace tandem::cli {

// A router and its workers as children of this process, on this machine.
//   life    Start; then Wait; then Stop. The destructor kills what is left
//   errors  Unavailable names the process that ended, and how: a cluster of which one process is
//           gone is not mended but stopped. Cancelled after SIGINT or SIGTERM
//   threads one; PrepareSignals() (base/process.h) must have been called, and SIGCHLD be blocked
class Cluster {
 public:
  struct Options {
    std::string model;                      // a Hugging Face folder or a GGUF file
    std::string name;                       // empty: from the model's path
    std::string weights;                    // stored, int8 or int4; empty: the workers' default
    std::string activations;                // float32 or int8; empty: the workers' default
    bool split = true;                      // a prefill and a decode worker, or one for both
    std::string listen = "127.0.0.1:9000";  // the router's
    std::string metrics = "127.0.0.1:0";    // the router's
    // "PROCESS.path=value" with PROCESS one of router, worker (each of them), prefill, decode,
    // unified: passed on as --set path=value.
    std::vector<std::string> sets;
    bool verbose = false;  // the processes log what they do, not only what is wrong
  };
  struct Process {
    std::string role;  // router, prefill, decode, unified
    pid_t pid = 0;     // 0 once it has ended
    std::string ready_file;
    std::map<std::string, std::string> addresses;  // what its ready file says: grpc, metrics, kv
  };

  static absl::StatusOr<std::unique_ptr<Cluster>> Create(Options options);
  ~Cluster();

  // Returns when the router answers for the model with every worker linked to it.
  absl::Status Start();
  // Returns when a process ended or a stop signal came; never OK.
  absl::Status Wait();
  // Router first, so that running requests can finish; a second stop signal, or the timeout, kills.
  void Stop(absl::Duration timeout);

  const std::vector<Process>& processes() const { return processes_; }  // the router comes first
  // {"grpc", "metrics", "pid", "workers": [{"role", "grpc", "metrics", "kv", "pid"}]}
  std::string ReadyJson() const;

 private:
  Cluster(Options options, std::string folder);
  absl::Status Launch(const std::string& role, const std::vector<std::string>& settings);
  absl::Status AwaitReadyFiles();
  absl::Status AwaitWorkersAtRouter();
  // Waits for a signal, at most `timeout`. An error where a child ended or a stop signal came.
  absl::Status Watch(absl::Duration timeout);
  void Terminate(Process* process, absl::Time deadline);

  const Options options_;
  const std::string folder_;  // of the ready files and the router's store
  std::vector<Process> processes_;
};

}  // namespace tandem::cli
