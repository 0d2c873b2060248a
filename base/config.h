#pragma once
#include <google/protobuf/message.h>

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tandem {

// Reads one YAML document into a message of tandem.config.v1, strictly. What the document does not
// name takes the default of its declaration (config/v1/options.proto), so the result is complete.
//   errors  InvalidArgument "FILE:LINE:COLUMN: PATH: ..." for a key that is unknown (with the
//           nearest one) or given twice, and for a value of the wrong kind or out of range.
//           The first error is told
//   limits  256 KiB a file; each list and map has a declared largest size. A YAML alias is read
//           as what it stands for, and can't grow past them: no list or map holds another
//   threads any
//
// `sets` are "path=value" overrides ("engine.threads=4", "workers=[a:1, b:1]", "aliases.fast=x"),
// applied in order after the document, with the same strictness; errors name the flag.
absl::Status ReadConfig(absl::string_view yaml, absl::string_view source,
                        absl::Span<const std::string> sets, google::protobuf::Message* config);

// The same from a file; an empty path stands for an empty file.
absl::Status ReadConfigFile(const std::string& path, absl::Span<const std::string> sets,
                            google::protobuf::Message* config);

template <typename Config>
absl::StatusOr<Config> LoadConfig(const std::string& path, absl::Span<const std::string> sets) {
  Config config;
  absl::Status status = ReadConfigFile(path, sets, &config);
  if (!status.ok()) return status;
  return config;
}

// The whole configuration as YAML that reads back to the same message.
std::string ConfigYaml(const google::protobuf::Message& config);

// One root message of docs/CONFIG.md.
struct ConfigPage {
  std::string title;  // e.g. "tandem-router"
  const google::protobuf::Descriptor* type;
};

// The text of docs/CONFIG.md: a table of every field, with default, range and meaning.
std::string ConfigMarkdown(absl::Span<const ConfigPage> pages);

}  // namespace tandem
