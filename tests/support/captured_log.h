#pragma once
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/support/scratch_folder.h"

namespace tandem {

// What is written on stderr while it lives, to be read at any time: for other threads' log lines,
// which come when they come.
class CapturedLog {
 public:
  CapturedLog() {
    std::fflush(stderr);
    const int file = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dup2(file, STDERR_FILENO);
    close(file);
  }
  ~CapturedLog() {
    std::fflush(stderr);
    dup2(stderr_, STDERR_FILENO);
    close(stderr_);
  }
  CapturedLog(const CapturedLog&) = delete;
  CapturedLog& operator=(const CapturedLog&) = delete;

  std::string text() const {
    std::ifstream file(path_);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  // The log, as soon as it holds `part`, or after 20 s.
  std::string Await(absl::string_view part) const {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    std::string log = text();
    for (; !absl::StrContains(log, part) && absl::Now() < deadline; log = text()) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    return log;
  }

 private:
  const ScratchFolder folder_;
  const std::string path_ = folder_.path() + "/log";
  const int stderr_ = dup(STDERR_FILENO);
};

}  // namespace tandem
