#pragma once
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/scratch_folder.h"

namespace tandem {

// The file holds `text` from now on; whoever reads it sees all or nothing. Returns its path.
inline std::string WriteFile(const std::string& path, const std::string& text) {
  const std::string fresh = path + ".new";
  std::ofstream(fresh) << text;
  std::filesystem::rename(fresh, path);
  return path;
}

// A folder of a test's own with files in it, gone at its end.
class TestFolder {
 public:
  std::string Write(const std::string& name, const std::string& text) const {
    return WriteFile(folder_.path() + "/" + name, text);
  }
  const std::string& path() const { return folder_.path(); }

 private:
  const ScratchFolder folder_;
};

}  // namespace tandem
