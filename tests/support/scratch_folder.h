#pragma once
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

namespace tandem {

// An empty folder of this test's own, gone with everything in it when this is. Its path is short
// enough for sockets.
class ScratchFolder {
 public:
  ScratchFolder() {
    if (mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~ScratchFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string& path() const { return path_; }  // empty if none could be made

 private:
  std::string path_ = "/tmp/tandem-test-XXXXXX";
};

}  // namespace tandem
