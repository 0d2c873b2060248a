#include "base/config_value.h"

#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/address.h"
#include "base/check.h"
#include "base/nearest.h"
#include "base/status.h"
#include "base/utf8.h"

namespace tandem {
namespace {

using config::v1::FieldRule;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr size_t kLongestText = 4096;  // bytes of one string
constexpr std::pair<absl::string_view, int> kByteUnits[] = {
    {"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}};

absl::StatusOr<uint64_t> ParseInteger(absl::string_view text) {
  uint64_t value = 0;
  if (text.empty() || !absl::ascii_isdigit(text.front()) || !absl::SimpleAtoi(text, &value)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a whole number"));
  }
  return value;
}

absl::StatusOr<uint64_t> ParseBytes(absl::string_view text) {
  for (const auto& [unit, shift] : kByteUnits) {
    if (!absl::EndsWith(text, unit)) continue;
    const absl::string_view number = text.substr(0, text.size() - unit.size());
    const absl::StatusOr<uint64_t> count = ParseInteger(absl::StripAsciiWhitespace(number));
    if (!count.ok() || *count > (UINT64_MAX >> shift)) break;
    return *count << shift;
  }
  const absl::StatusOr<uint64_t> plain = ParseInteger(text);
  if (plain.ok()) return plain;
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", text, "\" is not a size: write a whole number of B, KiB, MiB, GiB or TiB, like 64MiB"));
}

absl::StatusOr<absl::Duration> ParseDurationText(absl::string_view text) {
  absl::Duration value;
  if (!absl::ParseDuration(text, &value) || value < absl::ZeroDuration() ||
      value == absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not a duration: write it like 250ms, 10s or 1m30s"));
  }
  return value;
}

template <typename T, typename Parse>
absl::Status CheckRange(const FieldRule& rule, T value, absl::string_view text, Parse parse) {
  if (!rule.min().empty() && value < parse(rule.min()).value()) {
    return absl::InvalidArgumentError(absl::StrCat(text, " is below the minimum ", rule.min()));
  }
  if (!rule.max().empty() && value > parse(rule.max()).value()) {
    return absl::InvalidArgumentError(absl::StrCat(text, " is above the maximum ", rule.max()));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> ParseUnsigned(const FieldDescriptor* field, absl::string_view text) {
  const FieldRule& rule = RuleOf(field);
  const auto parse = rule.kind() == config::v1::KIND_BYTES ? ParseBytes : ParseInteger;
  ASSIGN_OR_RETURN(const uint64_t value, parse(text));
  RETURN_IF_ERROR(CheckRange(rule, value, text, parse));
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_UINT32 && value > UINT32_MAX) {
    return absl::InvalidArgumentError(absl::StrCat(text, " is above the maximum ", UINT32_MAX));
  }
  return value;
}

absl::Status CheckTarget(absl::string_view text) {
  ASSIGN_OR_RETURN(const HostPort target, ParseHostPort(absl::StripPrefix(text, "dns:///")));
  if (target.port != 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" names port 0, where none answers"));
}

absl::Status CheckText(const FieldRule& rule, absl::string_view text) {
  if (text.size() > kLongestText) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text has ", text.size(), " bytes, more than ", kLongestText));
  }
  if (!IsUtf8(text)) return absl::InvalidArgumentError("the text is not UTF-8");
  for (const char c : text) {
    if (absl::ascii_iscntrl(c)) {
      return absl::InvalidArgumentError("the text has a control character");
    }
  }
  if (text.empty()) return absl::OkStatus();  // whether it may be is `required`'s to say
  if (rule.kind() == config::v1::KIND_LISTEN) return ToStatus(ParseHostPort(text));
  if (rule.kind() == config::v1::KIND_TARGET) return CheckTarget(text);
  return absl::OkStatus();
}

const google::protobuf::EnumValueDescriptor* FindEnumValue(
    const google::protobuf::EnumDescriptor* type, absl::string_view name) {
  for (int i = 0; i < type->value_count(); ++i) {
    if (type->value(i)->number() != 0 && EnumShortName(type->value(i)) == name) {
      return type->value(i);
    }
  }
  return nullptr;
}

}  // namespace

const FieldRule& RuleOf(const FieldDescriptor* field) {
  return field->options().GetExtension(config::v1::field);
}

bool IsSection(const FieldDescriptor* field) {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && !field->is_repeated() &&
         field->message_type() != google::protobuf::Duration::descriptor();
}

std::string EnumShortName(const google::protobuf::EnumValueDescriptor* value) {
  // "LogLevel" -> the prefix "LOG_LEVEL_" that every value of the enum carries.
  size_t prefix = 0;
  for (const char c : value->type()->name()) prefix += absl::ascii_isupper(c) ? 2 : 1;
  return absl::AsciiStrToLower(value->name().substr(prefix));
}

std::vector<std::string> EnumShortNames(const google::protobuf::EnumDescriptor* type) {
  std::vector<std::string> names;
  for (int i = 0; i < type->value_count(); ++i) {
    if (type->value(i)->number() != 0) names.push_back(EnumShortName(type->value(i)));
  }
  return names;
}

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

std::string FormatBytes(uint64_t bytes) {
  for (const auto& [unit, shift] : kByteUnits) {
    if (bytes != 0 && bytes % (uint64_t{1} << shift) == 0)
      return absl::StrCat(bytes >> shift, unit);
  }
  return "0B";
}

absl::Status SetScalar(Message* message, const FieldDescriptor* field, absl::string_view text) {
  const google::protobuf::Reflection* reflection = message->GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      if (text != "true" && text != "false") {
        return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is neither true nor false"));
      }
      reflection->SetBool(message, field, text == "true");
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_UINT32: {
      ASSIGN_OR_RETURN(const uint64_t value, ParseUnsigned(field, text));
      reflection->SetUInt32(message, field, static_cast<uint32_t>(value));
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      ASSIGN_OR_RETURN(const uint64_t value, ParseUnsigned(field, text));
      reflection->SetUInt64(message, field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_STRING:
      RETURN_IF_ERROR(CheckText(RuleOf(field), text));
      if (field->is_repeated()) {
        reflection->AddString(message, field, std::string(text));
      } else {
        reflection->SetString(message, field, std::string(text));
      }
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto* value = FindEnumValue(field->enum_type(), text);
      if (value == nullptr) {
        return absl::InvalidArgumentError(absl::StrCat(
            "unknown value \"", text, "\"; ", Suggest(text, EnumShortNames(field->enum_type()))));
      }
      reflection->SetEnum(message, field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      ASSIGN_OR_RETURN(const absl::Duration value, ParseDurationText(text));
      RETURN_IF_ERROR(CheckRange(RuleOf(field), value, text, ParseDurationText));
      const int64_t seconds = absl::ToInt64Seconds(value);
      auto* duration = google::protobuf::DynamicCastToGenerated<google::protobuf::Duration>(
          reflection->MutableMessage(message, field));
      duration->set_seconds(seconds);
      duration->set_nanos(
          static_cast<int32_t>(absl::ToInt64Nanoseconds(value - absl::Seconds(seconds))));
      return absl::OkStatus();
    }
    default:
      break;
  }
  TANDEM_CHECK(false, "a configuration field has a type that the loader reads");
}

std::string ScalarText(const Message& message, const FieldDescriptor* field, int index) {
  const google::protobuf::Reflection* reflection = message.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->GetBool(message, field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_UINT32:
      return absl::StrCat(reflection->GetUInt32(message, field));
    case FieldDescriptor::CPPTYPE_UINT64: {
      const uint64_t value = reflection->GetUInt64(message, field);
      const bool bytes = RuleOf(field).kind() == config::v1::KIND_BYTES;
      return bytes ? FormatBytes(value) : absl::StrCat(value);
    }
    case FieldDescriptor::CPPTYPE_STRING:
      return field->is_repeated() ? reflection->GetRepeatedString(message, field, index)
                                  : reflection->GetString(message, field);
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumShortName(reflection->GetEnum(message, field));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return absl::FormatDuration(
          ToDuration(*google::protobuf::DynamicCastToGenerated<google::protobuf::Duration>(
              &reflection->GetMessage(message, field))));
    default:
      break;
  }
  TANDEM_CHECK(false, "a configuration field has a type that the loader writes");
}

}  // namespace tandem
