#include "base/config.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/check.h"
#include "base/config_value.h"
#include "base/nearest.h"
#include "base/status.h"

namespace tandem {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr size_t kLargestFile = 256 << 10;  // bytes

void ApplyDefaults(Message* message,
                   const google::protobuf::RepeatedPtrField<config::v1::InnerDefault>& replaced) {
  const Descriptor* type = message->GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    const config::v1::FieldRule& rule = RuleOf(field);
    if (IsSection(field)) {
      ApplyDefaults(message->GetReflection()->MutableMessage(message, field),
                    rule.inner_defaults());
    } else if (!rule.default_value().empty()) {
      TANDEM_CHECK(SetScalar(message, field, rule.default_value()).ok(),
                   "a declared default is a valid value");
    }
  }
  for (const config::v1::InnerDefault& inner : replaced) {
    const FieldDescriptor* field = type->FindFieldByName(inner.name());
    TANDEM_CHECK(field != nullptr && SetScalar(message, field, inner.value()).ok(),
                 "an inner default names a field and a valid value");
  }
}

std::vector<std::string> FieldNames(const Descriptor* type) {
  std::vector<std::string> names;
  for (int i = 0; i < type->field_count(); ++i) names.push_back(type->field(i)->name());
  return names;
}

std::string Join(absl::string_view path, absl::string_view name) {
  return path.empty() ? std::string(name) : absl::StrCat(path, ".", name);
}

// The map's value for `key`, which is added if it is new. A key is held to the rules of a text.
absl::StatusOr<Message*> MapEntry(Message* message, const FieldDescriptor* field,
                                  const std::string& key) {
  const google::protobuf::Reflection* reflection = message->GetReflection();
  const FieldDescriptor* key_field = field->message_type()->map_key();
  for (int i = 0; i < reflection->FieldSize(*message, field); ++i) {
    Message* entry = reflection->MutableRepeatedMessage(message, field, i);
    if (entry->GetReflection()->GetString(*entry, key_field) == key) return entry;
  }
  Message* entry = reflection->AddMessage(message, field);
  RETURN_IF_ERROR(Annotate(SetScalar(entry, key_field, key), "a key"));
  return entry;
}

// Fills messages from YAML nodes of one source: the file, or one --set.
class Reader {
 public:
  // `lines`: errors state where in `source` they are.
  Reader(absl::string_view source, bool lines) : source_(source), lines_(lines) {}

  absl::Status Error(const YAML::Mark& mark, absl::string_view why) const {
    if (!lines_ || mark.is_null()) {
      return absl::InvalidArgumentError(absl::StrCat(source_, ": ", why));
    }
    return absl::InvalidArgumentError(
        absl::StrCat(source_, ":", mark.line + 1, ":", mark.column + 1, ": ", why));
  }

  absl::Status UnknownKey(const YAML::Mark& mark, absl::string_view key, absl::string_view path,
                          const Descriptor* type) const {
    return Error(mark, absl::StrCat("unknown key \"", key, "\"",
                                    path.empty() ? "" : absl::StrCat(" in ", path), "; ",
                                    Suggest(key, FieldNames(type))));
  }

  absl::Status FillMessage(const YAML::Node& node, const std::string& path, Message* message) {
    if (node.IsNull()) return absl::OkStatus();
    RETURN_IF_ERROR(Expect(node, YAML::NodeType::Map, path, "a mapping of keys to values"));
    const Descriptor* type = message->GetDescriptor();
    std::set<std::string> seen;
    for (const auto& pair : node) {
      ASSIGN_OR_RETURN(const std::string key, KeyOf(pair.first, path, &seen));
      const FieldDescriptor* field = type->FindFieldByName(key);
      if (field == nullptr) return UnknownKey(pair.first.Mark(), key, path, type);
      RETURN_IF_ERROR(FillField(pair.second, Join(path, key), message, field));
    }
    return absl::OkStatus();
  }

  absl::Status FillField(const YAML::Node& node, const std::string& path, Message* message,
                         const FieldDescriptor* field) {
    if (field->is_map()) return FillMap(node, path, message, field);
    if (field->is_repeated()) return FillList(node, path, message, field);
    if (IsSection(field)) {
      return FillMessage(node, path, message->GetReflection()->MutableMessage(message, field));
    }
    return FillScalar(node, path, message, field);
  }

 private:
  absl::Status Expect(const YAML::Node& node, YAML::NodeType::value type, absl::string_view path,
                      absl::string_view what) const {
    if (node.Type() == type) return absl::OkStatus();
    return Error(node.Mark(),
                 absl::StrCat(path.empty() ? "the document" : path, ": has to be ", what));
  }

  absl::StatusOr<std::string> KeyOf(const YAML::Node& key, const std::string& path,
                                    std::set<std::string>* seen) const {
    if (!key.IsScalar()) return Error(key.Mark(), absl::StrCat(path, ": a key has to be a word"));
    if (!seen->insert(key.Scalar()).second) {
      return Error(key.Mark(),
                   absl::StrCat("key \"", Join(path, key.Scalar()), "\" appears twice"));
    }
    return key.Scalar();
  }

  absl::Status FillScalar(const YAML::Node& node, const std::string& path, Message* message,
                          const FieldDescriptor* field) const {
    if (node.IsNull()) {
      return Error(node.Mark(), absl::StrCat(path,
                                             ": has no value; leave the key out, or write "
                                             "\"\" for an empty text"));
    }
    RETURN_IF_ERROR(Expect(node, YAML::NodeType::Scalar, path, "a single value"));
    const absl::Status status = SetScalar(message, field, node.Scalar());
    if (!status.ok()) return Error(node.Mark(), absl::StrCat(path, ": ", status.message()));
    return absl::OkStatus();
  }

  absl::Status FillList(const YAML::Node& node, const std::string& path, Message* message,
                        const FieldDescriptor* field) {
    message->GetReflection()->ClearField(message, field);
    if (node.IsNull()) return absl::OkStatus();
    RETURN_IF_ERROR(Expect(node, YAML::NodeType::Sequence, path, "a list"));
    RETURN_IF_ERROR(CheckCount(node, path, field));
    int index = 0;
    for (const YAML::Node& entry : node) {
      RETURN_IF_ERROR(FillScalar(entry, absl::StrCat(path, "[", index++, "]"), message, field));
    }
    return absl::OkStatus();
  }

  absl::Status FillMap(const YAML::Node& node, const std::string& path, Message* message,
                       const FieldDescriptor* field) {
    message->GetReflection()->ClearField(message, field);
    if (node.IsNull()) return absl::OkStatus();
    RETURN_IF_ERROR(Expect(node, YAML::NodeType::Map, path, "a mapping of names to values"));
    RETURN_IF_ERROR(CheckCount(node, path, field));
    std::set<std::string> seen;
    for (const auto& pair : node) {
      ASSIGN_OR_RETURN(const std::string key, KeyOf(pair.first, path, &seen));
      const absl::StatusOr<Message*> entry = MapEntry(message, field, key);
      if (!entry.ok()) {
        return Error(pair.first.Mark(), absl::StrCat(path, ": ", entry.status().message()));
      }
      RETURN_IF_ERROR(
          FillScalar(pair.second, Join(path, key), *entry, field->message_type()->map_value()));
    }
    return absl::OkStatus();
  }

  absl::Status CheckCount(const YAML::Node& node, const std::string& path,
                          const FieldDescriptor* field) {
    const std::string& max = RuleOf(field).max();
    size_t limit = 0;
    TANDEM_CHECK(absl::SimpleAtoi(max, &limit), "a list or map declares its largest size");
    if (node.size() <= limit) return absl::OkStatus();
    return Error(node.Mark(),
                 absl::StrCat(path, ": has ", node.size(), " entries, more than ", max));
  }

  const std::string source_;
  const bool lines_;
};

// Notes where a document starts, and nothing else of it.
class DocumentStart final : public YAML::EventHandler {
 public:
  const YAML::Mark& mark() const { return mark_; }
  void OnDocumentStart(const YAML::Mark& mark) override { mark_ = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

 private:
  YAML::Mark mark_;
};

// The one document of `yaml`; an empty text is a null node. (YAML::LoadAll would never return from
// a text like ",": yaml-cpp finds a document there again and again.)
absl::StatusOr<YAML::Node> ParseDocument(const std::string& yaml, const Reader& reader) {
  try {  // yaml-cpp throws
    std::istringstream text(yaml);
    YAML::Parser parser(text);
    DocumentStart first, second;
    if (!parser.HandleNextDocument(first)) return YAML::Node();
    if (parser.HandleNextDocument(second)) {
      return reader.Error(second.mark(), "something follows the first document here; one is read");
    }
    return YAML::Load(yaml);
  } catch (const YAML::Exception& e) {
    return reader.Error(e.mark, absl::StrCat("not valid YAML: ", e.msg));
  }
}

absl::Status ApplySet(const std::string& set, Message* config) {
  const size_t equals = set.find('=');
  const std::string path = set.substr(0, equals);
  Reader reader(absl::StrCat("--set ", path), /*lines=*/false);
  if (equals == std::string::npos || path.empty()) {
    return reader.Error({}, "write --set path=value, like --set engine.threads=4");
  }
  const std::string value = set.substr(equals + 1);
  Message* message = config;
  std::string prefix;
  absl::string_view rest = path;
  for (;;) {
    const std::pair<absl::string_view, absl::string_view> split =
        absl::StrSplit(rest, absl::MaxSplits('.', 1));
    const bool last = split.first.size() == rest.size();
    const FieldDescriptor* field =
        message->GetDescriptor()->FindFieldByName(std::string(split.first));
    if (field == nullptr) {
      return reader.UnknownKey({}, split.first, prefix, message->GetDescriptor());
    }
    prefix = Join(prefix, split.first);
    rest = split.second;
    if (last && (field->is_repeated() || IsSection(field))) {
      ASSIGN_OR_RETURN(const YAML::Node node, ParseDocument(value, reader));
      return reader.FillField(node, prefix, message, field);
    }
    if (!last && field->is_map()) {
      const absl::StatusOr<Message*> entry = MapEntry(message, field, std::string(rest));
      if (!entry.ok()) return reader.Error({}, entry.status().message());
      message = *entry;
      field = field->message_type()->map_value();
    } else if (!last && IsSection(field)) {
      message = message->GetReflection()->MutableMessage(message, field);
      continue;
    } else if (!last) {
      return reader.Error({}, absl::StrCat(prefix, " has no keys inside it"));
    }
    const absl::Status status = SetScalar(message, field, value);
    return status.ok() ? status : reader.Error({}, status.message());
  }
}

absl::Status CheckRequired(absl::string_view source, const std::string& path,
                           const Message& message) {
  const google::protobuf::Reflection* reflection = message.GetReflection();
  const Descriptor* type = message.GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    const std::string name = Join(path, field->name());
    if (IsSection(field)) {
      RETURN_IF_ERROR(CheckRequired(source, name, reflection->GetMessage(message, field)));
      continue;
    }
    if (!RuleOf(field).required()) continue;
    const bool empty = field->is_repeated() ? reflection->FieldSize(message, field) == 0
                                            : reflection->GetString(message, field).empty();
    if (empty) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": ", name, " is required and has no value: ", RuleOf(field).doc()));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadConfig(absl::string_view yaml, absl::string_view source,
                        absl::Span<const std::string> sets, Message* config) {
  Reader reader(source, /*lines=*/true);
  if (yaml.size() > kLargestFile) {
    return reader.Error({}, absl::StrCat("the file is larger than ", FormatBytes(kLargestFile)));
  }
  config->Clear();
  ApplyDefaults(config, {});
  ASSIGN_OR_RETURN(const YAML::Node node, ParseDocument(std::string(yaml), reader));
  RETURN_IF_ERROR(reader.FillMessage(node, "", config));
  for (const std::string& set : sets) RETURN_IF_ERROR(ApplySet(set, config));
  return CheckRequired(source, "", *config);
}

absl::Status ReadConfigFile(const std::string& path, absl::Span<const std::string> sets,
                            Message* config) {
  if (path.empty()) return ReadConfig("", "configuration", sets, config);
  std::ifstream file(path, std::ios::binary);
  std::string text(kLargestFile + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.eof() && !file.good()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot read the configuration file ", path, ": ", std::strerror(errno)));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return ReadConfig(text, path, sets, config);
}

}  // namespace tandem
