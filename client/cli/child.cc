#include "client/cli/child.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"

namespace tandem::cli {
namespace {

constexpr int kExecFailed = 127;

// In the child, between fork and exec: async-signal-safe calls only.
[[noreturn]] void RunInChild(char* const* argv, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(kExecFailed);  // it died before the line above
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  const int nothing = open("/dev/null", O_RDONLY);
  if (nothing >= 0) dup2(nothing, STDIN_FILENO);
  execv(argv[0], argv);
  _exit(kExecFailed);
}

}  // namespace

absl::StatusOr<std::string> ProgramBeside(const std::string& name) {
  char self[4096];
  const ssize_t bytes = readlink("/proc/self/exe", self, sizeof self);
  if (bytes <= 0 || bytes == sizeof self) {
    return absl::InternalError("the path of this program cannot be read from /proc/self/exe");
  }
  const std::string path(self, bytes);
  const std::string beside = absl::StrCat(path.substr(0, path.rfind('/') + 1), name);
  if (access(beside.c_str(), X_OK) == 0) return beside;
  return absl::NotFoundError(absl::StrCat("there is no program ", beside));
}

absl::StatusOr<pid_t> StartChild(const std::vector<std::string>& command) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) RunInChild(argv.data(), parent);
  if (pid > 0) setpgid(pid, pid);  // as the child does: whoever comes first
  if (pid < 0) {
    return absl::UnavailableError(absl::StrCat("cannot start ", command[0], ": ", strerror(errno)));
  }
  return pid;
}

std::string ChildEnd::ToString() const {
  if (WIFSIGNALED(wait_status)) {
    const int number = WTERMSIG(wait_status);
    return absl::StrCat("was killed by signal ", number, " (", strsignal(number), ")");
  }
  return absl::StrCat("ended with status ", WEXITSTATUS(wait_status));
}

std::optional<ChildEnd> NextEndedChild() {
  ChildEnd end;
  end.pid = waitpid(-1, &end.wait_status, WNOHANG);
  if (end.pid <= 0) return std::nullopt;
  return end;
}

}  // namespace tandem::cli
