#include "router/prompt/chat_json.h"

#include <google/protobuf/struct.pb.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"
#include "base/status.h"
#include "nlohmann/json.hpp"

namespace tandem {
namespace {

namespace iv1 = inference::v1;
using Json = nlohmann::ordered_json;

constexpr int kMaxDepth = 64;                          // of arguments: what writes JSON recurses
constexpr double kExactIntegers = 9007199254740992.0;  // 2^53

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// How deep arrays and objects nest in `text`: exact where it is valid JSON.
int Depth(absl::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') quoted = !quoted;
    if (quoted && c == '\\') ++i;
    if (quoted) continue;
    if (c == '[' || c == '{') deepest = std::max(deepest, ++depth);
    if (c == ']' || c == '}') --depth;
  }
  return deepest;
}

absl::Status CheckDepth(const iv1::ChatInput& chat) {
  for (int i = 0; i < chat.messages_size(); ++i) {
    for (int j = 0; j < chat.messages(i).tool_calls_size(); ++j) {
      const int depth = Depth(chat.messages(i).tool_calls(j).arguments());
      if (depth <= kMaxDepth) continue;
      const std::string field =
          absl::StrCat("chat.messages[", i, "].tool_calls[", j, "].arguments");
      const std::string why = absl::StrCat("it nests ", depth, " deep; at most ", kMaxDepth);
      return WithFieldViolation(absl::InvalidArgumentError(absl::StrCat(field, ": ", why)), field,
                                why);
    }
  }
  return absl::OkStatus();
}

// Keys in alphabetical order: a protobuf map has none of its own. Protobuf's parser bounds the
// depth: 100 messages, at least 2 for each level.
Json ToJson(const google::protobuf::Value& value) {
  switch (value.kind_case()) {
    case google::protobuf::Value::kNumberValue: {
      const double number = value.number_value();
      if (number == std::floor(number) && std::abs(number) <= kExactIntegers) {
        return static_cast<int64_t>(number);
      }
      return number;
    }
    case google::protobuf::Value::kStringValue:
      return value.string_value();
    case google::protobuf::Value::kBoolValue:
      return value.bool_value();
    case google::protobuf::Value::kStructValue: {
      std::map<std::string, const google::protobuf::Value*> sorted;
      for (const auto& [key, field] : value.struct_value().fields()) sorted[key] = &field;
      Json out = Json::object();
      for (const auto& [key, field] : sorted) out[key] = ToJson(*field);
      return out;
    }
    case google::protobuf::Value::kListValue: {
      Json out = Json::array();
      for (const auto& item : value.list_value().values()) out.push_back(ToJson(item));
      return out;
    }
    default:
      return nullptr;
  }
}

Json ToJson(const google::protobuf::Struct& fields) {
  google::protobuf::Value value;
  *value.mutable_struct_value() = fields;
  return ToJson(value);
}

Json ToJson(const iv1::ToolCall& call) {
  Json arguments = Json::parse(call.arguments(), nullptr, /*allow_exceptions=*/false);
  if (arguments.is_discarded()) arguments = call.arguments();
  Json out = {{"type", "function"},
              {"function", {{"name", call.name()}, {"arguments", std::move(arguments)}}}};
  if (!call.id().empty()) out["id"] = call.id();
  return out;
}

Json ToJson(const iv1::ChatMessage& message) {
  Json out = {{"role", message.role()}, {"content", message.content()}};
  if (!message.reasoning().empty()) out["reasoning_content"] = message.reasoning();
  if (!message.tool_call_id().empty()) out["tool_call_id"] = message.tool_call_id();
  if (!message.name().empty()) out["name"] = message.name();
  if (message.tool_calls_size() > 0) {
    Json calls = Json::array();
    for (const iv1::ToolCall& call : message.tool_calls()) calls.push_back(ToJson(call));
    out["tool_calls"] = std::move(calls);
  }
  return out;
}

Json ToJson(const iv1::Tool& tool) {
  Json function = {{"name", tool.name()}, {"description", tool.description()}};
  function["parameters"] = tool.has_parameters() ? ToJson(tool.parameters()) : Json::object();
  return {{"type", "function"}, {"function", std::move(function)}};
}

}  // namespace

absl::StatusOr<ChatRequest> ToChatRequest(const iv1::ChatInput& chat) {
  RETURN_IF_ERROR(CheckDepth(chat));
  ChatRequest out;
  Json messages = Json::array();
  for (const iv1::ChatMessage& message : chat.messages()) messages.push_back(ToJson(message));
  out.messages_json = Dump(messages);
  // With MODE_NONE the model must not see tools that it may not call.
  if (chat.tools_size() > 0 && chat.tool_choice().mode() != iv1::ToolChoice::MODE_NONE) {
    Json tools = Json::array();
    for (const iv1::Tool& tool : chat.tools()) tools.push_back(ToJson(tool));
    out.tools_json = Dump(tools);
  }
  if (chat.has_template_variables()) out.variables_json = Dump(ToJson(chat.template_variables()));
  out.add_generation_prompt = !chat.has_add_generation_prompt() || chat.add_generation_prompt();
  return out;
}

}  // namespace tandem
