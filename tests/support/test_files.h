#pragma once
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/scratch_folder.h"

namespace tandem {

// A folder of a test's own with files in it, gone at its end.
class TestFolder {
 public:
  // The path of a file there that holds `text` from now on; whoever reads it sees all or nothing.
  std::string Write(const std::string& name, const std::string& text) const {
    const std::string path = folder_.path() + "/" + name, fresh = path + ".new";
    std::ofstream(fresh) << text;
    std::filesystem::rename(fresh, path);
    return path;
  }

 private:
  const ScratchFolder folder_;
};

}  // namespace tandem
