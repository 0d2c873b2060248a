#include "client/cli/text_input.h"

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem::cli {

absl::StatusOr<std::string> ReadText(std::FILE* file) {
  constexpr size_t kEnough = 17 << 20;
  std::string text;
  char buffer[1 << 16];
  size_t bytes = 0;
  while (text.size() < kEnough && (bytes = std::fread(buffer, 1, sizeof buffer, file)) > 0) {
    text.append(buffer, bytes);
  }
  if (std::ferror(file) != 0) return absl::ErrnoToStatus(errno, "can't read it");
  return text;
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("can't open \"", path, "\""));
  absl::StatusOr<std::string> text = ReadText(file);
  std::fclose(file);
  if (!text.ok()) return Annotate(text.status(), absl::StrCat("\"", path, "\""));
  return text;
}

}  // namespace tandem::cli
