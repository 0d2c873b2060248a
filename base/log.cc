#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace tandem {
namespace {

constexpr char kTimeFormat[] = "%Y-%m-%dT%H:%M:%E3SZ";

const char* LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "unknown";
}

spdlog::level::level_enum SpdlogLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

nlohmann::ordered_json ToJson(const LogValue& value) {
  return std::visit(
      [](const auto& v) -> nlohmann::ordered_json {
        using V = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<V, absl::string_view>) {
          return std::string(v);
        } else {
          return v;
        }
      },
      value.variant());
}

// Bytes that are not UTF-8 become U+FFFD instead of an exception.
std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool IsPlainWord(absl::string_view text) {
  for (const unsigned char c : text) {
    if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\') return false;
  }
  return !text.empty();
}

// A bare word where that is unambiguous, else a JSON string.
std::string ToText(const nlohmann::ordered_json& json) {
  if (json.is_string() && IsPlainWord(json.get_ref<const std::string&>())) {
    return json.get<std::string>();
  }
  return Dump(json);
}

// What the process logs with: spdlog's sink serialises the lines.
struct Logger {
  Logger() : sink(std::make_shared<spdlog::sinks::stderr_sink_mt>()), log("tandem", sink) {
    log.set_pattern("%v");
    log.set_level(spdlog::level::info);
  }
  std::shared_ptr<spdlog::sinks::stderr_sink_mt> sink;
  spdlog::logger log;
  std::shared_ptr<const LogOptions> options = std::make_shared<LogOptions>();  // atomic access
};

Logger& TheLogger() {
  static Logger* const logger = new Logger;  // outlives every thread that may still log
  return *logger;
}

}  // namespace

std::string FormatLogLine(const LogOptions& options, absl::Time time, LogLevel level,
                          absl::string_view message, LogFields fields) {
  const std::string stamp = absl::FormatTime(kTimeFormat, time, absl::UTCTimeZone());
  if (options.format == LogFormat::kJson) {
    nlohmann::ordered_json line = {{"time", stamp}, {"level", LevelName(level)}};
    if (!options.process.empty()) line["process"] = options.process;
    line["message"] = std::string(message);
    for (const LogField& field : fields) line[std::string(field.key)] = ToJson(field.value);
    return Dump(line);
  }
  std::string line = absl::StrCat(stamp, " ", LevelName(level), " ");
  if (!options.process.empty()) absl::StrAppend(&line, options.process, ": ");
  absl::StrAppend(&line, message);
  for (const LogField& field : fields) {
    absl::StrAppend(&line, " ", field.key, "=", ToText(ToJson(field.value)));
  }
  return line;
}

void SetLogOptions(const LogOptions& options) {
  Logger& logger = TheLogger();
  std::atomic_store(&logger.options, std::make_shared<const LogOptions>(options));
  logger.log.set_level(SpdlogLevel(options.level));
}

void Log(LogLevel level, absl::string_view message, LogFields fields) {
  Logger& logger = TheLogger();
  if (!logger.log.should_log(SpdlogLevel(level))) return;
  const std::shared_ptr<const LogOptions> options = std::atomic_load(&logger.options);
  const std::string line = FormatLogLine(*options, absl::Now(), level, message, fields);
  logger.log.log(SpdlogLevel(level), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace tandem
