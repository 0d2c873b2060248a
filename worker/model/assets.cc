#include "worker/model/assets.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/block_hash.h"
#include "base/status.h"
#include "base/utf8.h"
#include "worker/model/json.h"
#include "worker/model/mapped_file.h"

namespace tandem {
namespace {

using nlohmann::json;

constexpr size_t kTokenizerBytesMax = 256 << 20;
constexpr size_t kSmallFileBytesMax = 16 << 20;

constexpr absl::string_view kSpecialTokens[] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                                "sep_token", "cls_token", "mask_token"};

// "" when there is no such file.
absl::StatusOr<std::string> ReadOptional(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFileUpTo(path, kSmallFileBytesMax);
  if (absl::IsNotFound(text.status())) return std::string();
  return text;
}

absl::StatusOr<json> ReadOptionalObject(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadOptional(path));
  if (text.empty()) return json::object();
  absl::StatusOr<json> parsed = ParseJson(text);
  if (!parsed.ok()) return Annotate(parsed.status(), path);
  if (!parsed->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a JSON object"));
  }
  return parsed;
}

// Scans a tokenizer.json for the highest token id without keeping the document: the vocabulary is
// an object of ids, or for Unigram an array whose index is the id; added tokens carry an "id".
class TokenIdScan {
 public:
  // Keeps nothing of the document; what opens is entered, so that its members are seen.
  bool OnEvent(int depth, json::parse_event_t event, json& parsed) {
    using Event = json::parse_event_t;
    const bool in_vocab = section_ == "model" && member_ == "vocab";
    if (event == Event::object_start || event == Event::array_start) return true;
    if (event == Event::key) return OnKey(depth, parsed.get_ref<const std::string&>());
    if (event == Event::value && depth == 3 && (in_vocab || in_id_)) See(parsed);
    if (event == Event::array_end && depth == 3 && in_vocab) ++size_;  // ["token", score]
    return depth == 0;
  }
  int64_t size() const { return size_; }

 private:
  // Whether the member may be entered: the vocabulary's are numbers, and too many to store.
  bool OnKey(int depth, const std::string& key) {
    if (depth == 1) section_ = key;
    if (depth <= 2) member_ = depth == 2 ? key : "";
    in_id_ = depth == 3 && section_ == "added_tokens" && key == "id";
    return depth < 3;
  }
  void See(const json& id) {
    constexpr uint64_t kIdMax = uint64_t{1} << 40;  // beyond every vocabulary, so refused later
    if (id.is_number_unsigned()) {
      size_ = std::max(size_, static_cast<int64_t>(std::min(id.get<uint64_t>(), kIdMax)) + 1);
    }
  }

  std::string section_, member_;
  bool in_id_ = false;
  int64_t size_ = 0;
};

absl::StatusOr<int32_t> TokenizerSize(absl::string_view tokenizer, const ModelSpec& spec) {
  TokenIdScan scan;
  const json rest = json::parse(
      tokenizer.begin(), tokenizer.end(),
      [&](int depth, json::parse_event_t event, json& parsed) {
        return scan.OnEvent(depth, event, parsed);
      },
      /*allow_exceptions=*/false);
  if (!rest.is_object()) return absl::InvalidArgumentError("not a JSON object");
  RETURN_IF_ERROR(CheckTokenizerSize(scan.size(), spec));
  return static_cast<int32_t>(scan.size());
}

// A token in tokenizer_config.json is its text, or an object that has it as "content".
std::string TokenText(const json& token) {
  if (token.is_string()) return token.get<std::string>();
  const json* content = JsonFields(token).Find("content");
  return content != nullptr && content->is_string() ? content->get<std::string>() : "";
}

json SpecialTokensOf(const json& tokenizer_config, const json& special_tokens_map) {
  json tokens = json::object();
  for (const absl::string_view name : kSpecialTokens) {
    for (const json* source : {&tokenizer_config, &special_tokens_map}) {
      const json* token = JsonFields(*source).Find(name);
      const std::string text = token == nullptr ? "" : TokenText(*token);
      if (!text.empty() && !tokens.contains(std::string(name))) tokens[std::string(name)] = text;
    }
  }
  return tokens;
}

// "chat_template" is one template, or a list of {name, template} of which "default" is ours.
std::string TemplateOf(const json& tokenizer_config) {
  const json* found = JsonFields(tokenizer_config).Find("chat_template");
  if (found == nullptr) return "";
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) return "";
  for (const json& entry : *found) {
    const json* name = JsonFields(entry).Find("name");
    const json* text = JsonFields(entry).Find("template");
    if (name != nullptr && *name == "default" && text != nullptr && text->is_string()) {
      return text->get<std::string>();
    }
  }
  return "";
}

absl::Status AddLicense(const std::string& folder, ModelAssets& assets) {
  for (const absl::string_view name :
       {"LICENSE", "LICENSE.txt", "LICENSE.md", "LICENSE-MODEL", "license.txt"}) {
    ASSIGN_OR_RETURN(std::string text, ReadOptional(absl::StrCat(folder, "/", name)));
    if (text.empty()) continue;
    assets.Add("LICENSE", std::move(text));
    break;
  }
  return absl::OkStatus();
}

absl::Status AddTokenizer(const std::string& folder, const ModelSpec& spec, ModelAssets& assets) {
  const std::string path = absl::StrCat(folder, "/tokenizer.json");
  absl::StatusOr<std::string> tokenizer = ReadFileUpTo(path, kTokenizerBytesMax);
  if (absl::IsNotFound(tokenizer.status())) {
    return absl::NotFoundError(absl::StrCat(
        path, ": not there; other tokenizer formats must be converted (transformers saves it)"));
  }
  RETURN_IF_ERROR(tokenizer);
  absl::StatusOr<int32_t> size = TokenizerSize(*tokenizer, spec);
  if (!size.ok()) return Annotate(size.status(), path);
  assets.tokenizer_size = *size;
  assets.Add("tokenizer.json", *std::move(tokenizer));
  return absl::OkStatus();
}

}  // namespace

void ModelAssets::Add(absl::string_view name, std::string data) {
  std::string digest = Sha256Hex(data);
  assets.push_back({std::string(name), std::move(digest), std::move(data)});
}

absl::Status ModelAssets::AddTemplate(std::string text) {
  if (!IsUtf8(text)) return absl::InvalidArgumentError("the chat template is not valid UTF-8");
  if (!text.empty()) Add("chat_template.jinja", std::move(text));
  return absl::OkStatus();
}

absl::Status CheckTokenizerSize(int64_t tokens, const ModelSpec& spec) {
  if (tokens >= 1 && tokens <= spec.vocab) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the tokenizer has ", tokens,
                                                 " tokens and the model's embedding ", spec.vocab,
                                                 " rows: they do not belong together"));
}

const Asset* ModelAssets::Find(absl::string_view name) const {
  const auto it = std::find_if(assets.begin(), assets.end(),
                               [&](const Asset& asset) { return asset.name == name; });
  return it == assets.end() ? nullptr : &*it;
}

absl::StatusOr<ModelAssets> ReadHfAssets(const std::string& folder, const ModelSpec& spec) {
  ModelAssets assets;
  RETURN_IF_ERROR(AddTokenizer(folder, spec, assets));
  ASSIGN_OR_RETURN(const json config, ReadOptionalObject(folder + "/tokenizer_config.json"));
  ASSIGN_OR_RETURN(const json tokens, ReadOptionalObject(folder + "/special_tokens_map.json"));
  ASSIGN_OR_RETURN(std::string chat, ReadOptional(folder + "/chat_template.jinja"));
  if (chat.empty()) chat = TemplateOf(config);
  RETURN_IF_ERROR(Annotate(assets.AddTemplate(std::move(chat)), folder));
  ASSIGN_OR_RETURN(const json generation, ReadOptionalObject(folder + "/generation_config.json"));
  if (!generation.empty()) assets.Add("generation_config.json", generation.dump());
  assets.Add("special_tokens.json", SpecialTokensOf(config, tokens).dump());
  RETURN_IF_ERROR(AddLicense(folder, assets));
  return assets;
}

}  // namespace tandem
