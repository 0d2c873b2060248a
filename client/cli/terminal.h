#pragma once
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

// What the commands write besides the answer. All of it goes to stderr; colours only where that is
// a terminal.
namespace tandem::cli {

bool InputIsTerminal();   // stdin
bool OutputIsTerminal();  // stdout
bool ErrorIsTerminal();   // stderr

// One line, dimmed.
void Note(absl::string_view line);
// "tandem: CODE: message", then each wrong field and when to try again, where the status says so.
void PrintError(const absl::Status& status);
// A mistake on the command line: the message, and how to get help. Returns the exit status.
int UsageError(absl::string_view command, const absl::Status& status);

// Written to stdout and flushed, so that it streams through a pipe too.
void PrintAnswer(absl::string_view text);

}  // namespace tandem::cli
