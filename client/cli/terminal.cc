#include "client/cli/terminal.h"

#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"

namespace tandem::cli {
namespace {

constexpr char kDim[] = "\033[2m";
constexpr char kRed[] = "\033[31m";
constexpr char kPlain[] = "\033[0m";

std::string Coloured(absl::string_view colour, absl::string_view text) {
  if (!ErrorIsTerminal()) return std::string(text);
  return absl::StrCat(colour, text, kPlain);
}

void WriteLine(const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); }

}  // namespace

bool InputIsTerminal() { return isatty(STDIN_FILENO) != 0; }
bool OutputIsTerminal() { return isatty(STDOUT_FILENO) != 0; }
bool ErrorIsTerminal() { return isatty(STDERR_FILENO) != 0; }

void Note(absl::string_view line) { WriteLine(Coloured(kDim, line)); }

void PrintError(const absl::Status& status) {
  WriteLine(absl::StrCat(Coloured(kRed, "tandem: "), absl::StatusCodeToString(status.code()), ": ",
                         status.message()));
  if (const auto bad = DetailOf<google::rpc::BadRequest>(status)) {
    for (const auto& violation : bad->field_violations()) {
      WriteLine(absl::StrCat("  ", violation.field(), ": ", violation.description()));
    }
  }
  if (const auto retry = DetailOf<google::rpc::RetryInfo>(status)) {
    WriteLine(absl::StrCat("  try again in ", retry->retry_delay().seconds() + 1, " s"));
  }
}

int UsageError(absl::string_view command, const absl::Status& status) {
  WriteLine(absl::StrCat(Coloured(kRed, "tandem: "), status.message()));
  WriteLine(absl::StrCat("  tandem ", command, " --help shows what there is"));
  return 2;
}

void PrintAnswer(absl::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace tandem::cli
