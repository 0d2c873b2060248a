// Configuration written out: as YAML, and as the page that documents it.
#include <yaml-cpp/yaml.h>

#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/config.h"
#include "base/config_value.h"

namespace tandem {
namespace {

using config::v1::FieldRule;
using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

void EmitScalar(const Message& message, const FieldDescriptor* field, int index,
                YAML::Emitter* out) {
  const std::string text = ScalarText(message, field, index);
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
    *out << YAML::DoubleQuoted << text;
  } else {
    *out << text;
  }
}

void EmitMap(const Message& message, const FieldDescriptor* field, YAML::Emitter* out) {
  const google::protobuf::Reflection* reflection = message.GetReflection();
  std::map<std::string, const Message*> entries;  // sorted, as a protobuf map is not
  for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
    const Message& entry = reflection->GetRepeatedMessage(message, field, i);
    entries[ScalarText(entry, field->message_type()->map_key(), 0)] = &entry;
  }
  *out << YAML::BeginMap;
  for (const auto& [key, entry] : entries) {
    *out << YAML::Key << YAML::DoubleQuoted << key << YAML::Value;
    EmitScalar(*entry, field->message_type()->map_value(), 0, out);
  }
  *out << YAML::EndMap;
}

void EmitMessage(const Message& message, YAML::Emitter* out) {
  const google::protobuf::Reflection* reflection = message.GetReflection();
  const Descriptor* type = message.GetDescriptor();
  *out << YAML::BeginMap;
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    *out << YAML::Key << field->name() << YAML::Value;
    if (field->is_map()) {
      EmitMap(message, field, out);
    } else if (field->is_repeated()) {
      *out << YAML::BeginSeq;
      for (int k = 0; k < reflection->FieldSize(message, field); ++k) {
        EmitScalar(message, field, k, out);
      }
      *out << YAML::EndSeq;
    } else if (IsSection(field)) {
      EmitMessage(reflection->GetMessage(message, field), out);
    } else {
      EmitScalar(message, field, 0, out);
    }
  }
  *out << YAML::EndMap;
}

std::string TypeText(const FieldDescriptor* field) {
  if (field->is_map()) return "map of text";
  const FieldRule& rule = RuleOf(field);
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return "`true` or `false`";
    case FieldDescriptor::CPPTYPE_ENUM: {
      return absl::StrCat("`", absl::StrJoin(EnumShortNames(field->enum_type()), "`, `"), "`");
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return "duration";
    case FieldDescriptor::CPPTYPE_STRING:
      if (field->is_repeated()) return "list of text";
      return rule.kind() == config::v1::KIND_LISTEN ? "host:port" : "text";
    default:
      if (rule.kind() == config::v1::KIND_BYTES) return "size";
      return rule.unit().empty() ? "number" : rule.unit();
  }
}

std::string RangeText(const FieldRule& rule, bool counts) {
  std::string range = rule.min().empty() ? "" : absl::StrCat("at least ", rule.min());
  if (!rule.max().empty()) {
    absl::StrAppend(&range, range.empty() ? "" : ", ", "at most ", rule.max());
  }
  if (counts && !range.empty()) absl::StrAppend(&range, " entries");
  return range;
}

void AppendRows(const Descriptor* type, const std::string& path,
                const google::protobuf::RepeatedPtrField<config::v1::InnerDefault>& replaced,
                std::string* page) {
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    const FieldRule& rule = RuleOf(field);
    const std::string name = absl::StrCat(path, field->name());
    if (IsSection(field)) {
      AppendRows(field->message_type(), absl::StrCat(name, "."), rule.inner_defaults(), page);
      continue;
    }
    std::string default_text = rule.default_value();
    for (const config::v1::InnerDefault& inner : replaced) {
      if (inner.name() == field->name()) default_text = inner.value();
    }
    if (!default_text.empty()) {
      default_text = absl::StrCat("`", default_text, "`");
    } else if (rule.required()) {
      default_text = "required";
    }
    absl::StrAppend(page, "| `", name, "` | ", TypeText(field), " | ", default_text, " | ",
                    RangeText(rule, field->is_repeated()), " | ",
                    absl::StrReplaceAll(rule.doc(), {{"|", "\\|"}}), " |\n");
  }
}

}  // namespace

std::string ConfigYaml(const Message& config) {
  YAML::Emitter out;
  EmitMessage(config, &out);
  return absl::StrCat(out.c_str(), "\n");
}

std::string ConfigMarkdown(absl::Span<const ConfigPage> pages) {
  std::string text =
      "# Configuration\n\n"
      "Generated from `proto/tandem/config/v1/`; do not edit.\n\n"
      "Each process reads one YAML file (`--config FILE`). A dot in a name is a level of the "
      "file.\n"
      "`--set name=value` overrides one value and may be repeated. `--check-config` prints the "
      "whole\n"
      "configuration that results and exits. Durations are written `250ms`, `10s` or `1m30s`, "
      "sizes\n"
      "`64MiB`.\n";
  for (const ConfigPage& page : pages) {
    absl::StrAppend(&text, "\n## ", page.title,
                    "\n\n| Name | Value | Default | Range | Meaning |\n|---|---|---|---|---|\n");
    AppendRows(page.type, "", {}, &text);
  }
  return text;
}

}  // namespace tandem
