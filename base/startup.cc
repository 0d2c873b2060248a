#include "base/startup.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/log.h"
#include "tandem/config/v1/server.pb.h"

namespace tandem {
namespace {

std::string Help(const ProgramInfo& program) {
  std::string text =
      absl::StrCat(program.name, ": ", program.summary,
                   "\n\n  --config FILE       read settings from a YAML file",
                   "\n  --set PATH=VALUE    override one setting; may be repeated",
                   "\n  --check-config      print the configuration that results, and exit",
                   "\n  --ready-file FILE   write the addresses there once requests are taken",
                   "\n  --version, --help\n");
  for (const auto& [flag, path] : program.shortcuts) {
    absl::StrAppend(&text, "  ", flag, " VALUE: short for --set ", path, "=VALUE\n");
  }
  absl::StrAppend(&text, "\nEvery setting is in docs/CONFIG.md. Example:\n  ", program.name,
                  " --config ", program.name, ".yaml --set observability.log_level=debug\n");
  return text;
}

LogOptions LogOptionsOf(const ProgramInfo& program, const google::protobuf::Message& config) {
  const auto* field = config.GetDescriptor()->FindFieldByName("observability");
  TANDEM_CHECK(field != nullptr, "a process's configuration has the section observability");
  const auto* section = google::protobuf::DynamicCastToGenerated<config::v1::ObservabilityConfig>(
      &config.GetReflection()->GetMessage(config, field));
  LogOptions options;
  options.process = program.name;
  options.format =
      section->log_format() == config::v1::LOG_FORMAT_JSON ? LogFormat::kJson : LogFormat::kText;
  const int level = section->log_level() - config::v1::LOG_LEVEL_DEBUG;
  constexpr LogLevel kLevels[] = {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning,
                                  LogLevel::kError};
  TANDEM_CHECK(level >= 0 && level < std::ssize(kLevels), "the loader gives a level its value");
  options.level = kLevels[level];
  return options;
}

int Fail(const ProgramInfo& program, const absl::Status& status) {
  std::fprintf(stderr, "%s: %s\n", program.name.c_str(), std::string(status.message()).c_str());
  return 1;
}

}  // namespace

std::optional<int> ReadStartup(const ProgramInfo& program, absl::Span<const char* const> args,
                               ProcessArgs* parsed, google::protobuf::Message* config) {
  absl::StatusOr<ProcessArgs> arguments = ParseProcessArgs(args, program.shortcuts);
  if (!arguments.ok()) return Fail(program, arguments.status());
  *parsed = *std::move(arguments);
  if (parsed->help || parsed->version) {
    const std::string text =
        parsed->help ? Help(program) : absl::StrCat(program.name, " " TANDEM_VERSION "\n");
    std::fputs(text.c_str(), stdout);
    return 0;
  }
  const absl::Status read = ReadConfigFile(parsed->config_file, parsed->sets, config);
  if (!read.ok()) return Fail(program, read);
  if (parsed->check_config) {
    std::fputs(ConfigYaml(*config).c_str(), stdout);
    return 0;
  }
  SetLogOptions(LogOptionsOf(program, *config));
  return std::nullopt;
}

}  // namespace tandem
