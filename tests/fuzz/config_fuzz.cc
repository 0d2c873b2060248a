#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "base/config.h"
#include "tandem/config/v1/router.pb.h"

// The first line is a --set, the rest a file. What is accepted has to read back to the same YAML.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const size_t line = text.find('\n');
  std::vector<std::string> sets;
  if (line != std::string::npos && line > 0) sets.push_back(text.substr(0, line));
  const std::string yaml = line == std::string::npos ? text : text.substr(line + 1);
  tandem::config::v1::RouterConfig config, again;
  if (!tandem::ReadConfig(yaml, "fuzz.yaml", sets, &config).ok()) return 0;
  const std::string written = tandem::ConfigYaml(config);
  if (!tandem::ReadConfig(written, "again.yaml", {}, &again).ok()) std::abort();
  if (tandem::ConfigYaml(again) != written) std::abort();
  return 0;
}
