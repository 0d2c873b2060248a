#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

// One line an event on stderr: LogInfo("linked", {{"peer", peer}, {"epoch", epoch}}).
// The message is a constant phrase; what varies goes into fields. Prompt, completion, key and token
// text never go into either.
namespace tandem {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

struct LogOptions {
  LogFormat format = LogFormat::kText;
  LogLevel level = LogLevel::kInfo;  // less serious events are dropped
  std::string process;               // e.g. "router"; named in each line unless empty
};

// A field's value. Holds no copy of a string: use it within the full expression that made it.
class LogValue {
 public:
  template <typename T, std::enable_if_t<std::is_integral_v<T>, int> = 0>
  LogValue(T value) : value_(Widen(value)) {}           // NOLINT(google-explicit-constructor)
  LogValue(double value) : value_(value) {}             // NOLINT(google-explicit-constructor)
  LogValue(absl::string_view value) : value_(value) {}  // NOLINT(google-explicit-constructor)
  LogValue(const char* value) : value_(absl::string_view(value)) {}         // NOLINT
  LogValue(const std::string& value) : value_(absl::string_view(value)) {}  // NOLINT
  LogValue(absl::Duration value) : value_(absl::ToDoubleSeconds(value)) {}  // NOLINT: in seconds
  LogValue(const absl::Status& value)  // NOLINT: code and message, without the payloads
      : value_(value.ToString(absl::StatusToStringMode::kWithNoExtraData)) {}

  using Variant = std::variant<bool, int64_t, uint64_t, double, absl::string_view, std::string>;
  const Variant& variant() const { return value_; }

 private:
  template <typename T>
  static Variant Widen(T value) {
    if constexpr (std::is_same_v<T, bool>) {
      return value;
    } else if constexpr (std::is_signed_v<T>) {
      return static_cast<int64_t>(value);
    } else {
      return static_cast<uint64_t>(value);
    }
  }
  Variant value_;
};

struct LogField {
  absl::string_view key;  // snake_case
  LogValue value;
};
using LogFields = std::initializer_list<LogField>;

// Takes effect for all threads at once. Until the first call: text, from kInfo on.
void SetLogOptions(const LogOptions& options);

// May be called from any thread; writes at most one line, and none below the chosen level.
void Log(LogLevel level, absl::string_view message, LogFields fields);
inline void LogDebug(absl::string_view m, LogFields f = {}) { Log(LogLevel::kDebug, m, f); }
inline void LogInfo(absl::string_view m, LogFields f = {}) { Log(LogLevel::kInfo, m, f); }
inline void LogWarning(absl::string_view m, LogFields f = {}) { Log(LogLevel::kWarning, m, f); }
inline void LogError(absl::string_view m, LogFields f = {}) { Log(LogLevel::kError, m, f); }

// The line that Log writes, without its newline: never holds a raw control character, and in JSON
// is one valid object whatever the bytes of the fields are.
std::string FormatLogLine(const LogOptions& options, absl::Time time, LogLevel level,
                          absl::string_view message, LogFields fields);

}  // namespace tandem
