#include "text/gguf_vocab.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/utf8.h"
#include "text/gguf_pre_tokenizer.h"

namespace tandem {
namespace {

using nlohmann::json;

constexpr absl::string_view kBlank = "\u2581";  // how SentencePiece writes a blank
constexpr size_t kMaxTokens = 4'000'000;
constexpr size_t kMaxTokenBytes = 1024;

enum TokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kByte = 6,
};

using TokenIds = absl::flat_hash_map<absl::string_view, int32_t>;

absl::Status Wrong(absl::string_view key, size_t entry, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.", key, "[", entry, "] ", what));
}

absl::Status CheckId(absl::string_view key, std::optional<int32_t> id, const GgufVocab& vocab) {
  if (!id || (*id >= 0 && *id < static_cast<int64_t>(vocab.tokens.size()))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.", key, " is ", *id,
                                                 "; there are ", vocab.tokens.size(), " tokens"));
}

absl::StatusOr<TokenIds> IndexTokens(const GgufVocab& vocab) {
  const size_t count = vocab.tokens.size();
  if (count == 0 || count > kMaxTokens) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.tokens has ", count,
                                                   " entries; 1 to ", kMaxTokens, " are allowed"));
  }
  if (!vocab.token_types.empty() && vocab.token_types.size() != count) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tokenizer.ggml.token_type has ", vocab.token_types.size(), " entries and tokens ", count));
  }
  TokenIds ids;
  ids.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const absl::string_view token = vocab.tokens[i];
    if (token.size() > kMaxTokenBytes) return Wrong("tokens", i, "is longer than 1024 bytes");
    if (!IsUtf8(token)) return Wrong("tokens", i, "is not UTF-8");
    const auto [first, inserted] = ids.emplace(token, static_cast<int32_t>(i));
    if (!inserted) return Wrong("tokens", i, absl::StrCat("repeats entry ", first->second));
  }
  RETURN_IF_ERROR(CheckId("bos_token_id", vocab.bos_id, vocab));
  RETURN_IF_ERROR(CheckId("eos_token_id", vocab.eos_id, vocab));
  RETURN_IF_ERROR(CheckId("unknown_token_id", vocab.unk_id, vocab));
  return ids;
}

int32_t TypeOf(const GgufVocab& vocab, size_t id) {
  return vocab.token_types.empty() ? kNormal : vocab.token_types[id];
}

// Tokens that are found in a text before the model sees it.
json AddedTokens(const GgufVocab& vocab) {
  json added = json::array();
  for (size_t id = 0; id < vocab.tokens.size(); ++id) {
    const int32_t type = TypeOf(vocab, id);
    const bool ends = vocab.bos_id == id || vocab.eos_id == id;
    const bool special = type == kControl || type == kUnknown || ends;
    if ((!special && type != kUserDefined) || vocab.tokens[id].empty()) continue;
    added.push_back({{"id", id},
                     {"content", vocab.tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", special}});
  }
  return added;
}

json PostProcessor(const GgufVocab& vocab, bool add_bos, bool add_eos) {
  json single = json::array();
  json specials = json::object();
  const auto add = [&](int32_t id) {
    const absl::string_view token = vocab.tokens[id];
    single.push_back({{"SpecialToken", {{"id", token}, {"type_id", 0}}}});
    specials[std::string(token)] = {
        {"id", token}, {"ids", json::array({id})}, {"tokens", json::array({token})}};
  };
  if (add_bos && vocab.bos_id) add(*vocab.bos_id);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  if (add_eos && vocab.eos_id) add(*vocab.eos_id);
  if (single.size() == 1) return nullptr;
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", json::array()},
          {"special_tokens", specials}};
}

json BpeModel(const TokenIds& ids, json merges) {
  json table = json::object();
  for (const auto& [token, id] : ids) table[std::string(token)] = id;
  return {{"type", "BPE"},
          {"vocab", std::move(table)},
          {"merges", std::move(merges)},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false}};
}

// The merges as written: each pair and what it makes are tokens.
absl::StatusOr<json> WrittenMerges(const GgufVocab& vocab, const TokenIds& ids) {
  if (vocab.merges.empty()) {
    return absl::InvalidArgumentError("tokenizer.ggml.merges is missing");
  }
  json merges = json::array();
  for (size_t i = 0; i < vocab.merges.size(); ++i) {
    const absl::string_view merge = vocab.merges[i];
    const size_t blank = merge.find(' ', 1);
    if (blank == absl::string_view::npos || blank + 1 == merge.size()) {
      return Wrong("merges", i, "is not two tokens with a blank between them");
    }
    const absl::string_view left = merge.substr(0, blank), right = merge.substr(blank + 1);
    if (!ids.contains(left) || !ids.contains(right) || !ids.contains(absl::StrCat(left, right))) {
      return Wrong("merges", i, "joins or makes what is no token");
    }
    merges.push_back(json::array({left, right}));
  }
  return merges;
}

// SentencePiece joins the two neighbours that make the token of the best score. As a list of
// merges: every way to cut each token in two tokens, best score first.
absl::StatusOr<json> MergesByScore(const GgufVocab& vocab, const TokenIds& ids) {
  if (vocab.scores.size() != vocab.tokens.size()) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.scores has ",
                                                   vocab.scores.size(), " entries and tokens ",
                                                   vocab.tokens.size()));
  }
  struct Merge {
    float score;
    absl::string_view left, right;
    int32_t left_id, right_id;
  };
  const auto mergeable = [&](int32_t id) {
    const int32_t type = TypeOf(vocab, id);
    return type != kControl && type != kUnknown && type != kByte && type != kUserDefined;
  };
  std::vector<Merge> merges;
  for (size_t id = 0; id < vocab.tokens.size(); ++id) {
    if (!mergeable(id)) continue;
    const absl::string_view token = vocab.tokens[id];
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ids.find(token.substr(0, cut)), right = ids.find(token.substr(cut));
      if (left == ids.end() || right == ids.end()) continue;
      if (!mergeable(left->second) || !mergeable(right->second)) continue;
      merges.push_back({vocab.scores[id], left->first, right->first, left->second, right->second});
    }
  }
  std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tie(b.score, a.left_id, a.right_id) < std::tie(a.score, b.left_id, b.right_id);
  });
  json list = json::array();
  for (const Merge& merge : merges) list.push_back(json::array({merge.left, merge.right}));
  return list;
}

json ByteLevel(bool add_prefix_space) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", false}};
}

absl::StatusOr<json> ByteLevelTokenizer(const GgufVocab& vocab, const TokenIds& ids) {
  const GgufPreTokenizer* pre = FindGgufPreTokenizer(vocab.pre.empty() ? "default" : vocab.pre);
  if (pre == nullptr) {
    return absl::UnimplementedError(absl::StrCat("tokenizer.ggml.pre is \"", vocab.pre,
                                                 "\"; known are ", GgufPreTokenizerNames()));
  }
  ASSIGN_OR_RETURN(json merges, WrittenMerges(vocab, ids));
  json steps = json::array();
  for (const absl::string_view pattern : pre->patterns) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", pattern}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back(ByteLevel(vocab.add_space_prefix.value_or(false)));
  json model = BpeModel(ids, std::move(merges));
  model["ignore_merges"] = pre->ignore_merges;
  return json{{"normalizer", pre->nfc ? json{{"type", "NFC"}} : json()},
              {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}}},
              {"post_processor", PostProcessor(vocab, vocab.add_bos.value_or(pre->add_bos),
                                               vocab.add_eos.value_or(false))},
              {"decoder", ByteLevel(true)},
              {"model", std::move(model)}};
}

absl::StatusOr<json> SentencePieceTokenizer(const GgufVocab& vocab, const TokenIds& ids) {
  ASSIGN_OR_RETURN(json merges, MergesByScore(vocab, ids));
  json model = BpeModel(ids, std::move(merges));
  model["byte_fallback"] = true;
  model["fuse_unk"] = true;
  if (vocab.unk_id) model["unk_token"] = vocab.tokens[*vocab.unk_id];
  const json blank_to_mark = {
      {"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kBlank}};
  const json mark_to_blank = {
      {"type", "Replace"}, {"pattern", {{"String", kBlank}}}, {"content", " "}};
  json normalizers = json::array();
  json decoders =
      json::array({mark_to_blank, json{{"type", "ByteFallback"}}, json{{"type", "Fuse"}}});
  if (vocab.add_space_prefix.value_or(true)) {
    normalizers.push_back({{"type", "Prepend"}, {"prepend", kBlank}});
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  normalizers.push_back(blank_to_mark);
  return json{{"normalizer", {{"type", "Sequence"}, {"normalizers", std::move(normalizers)}}},
              {"pre_tokenizer", nullptr},
              {"post_processor",
               PostProcessor(vocab, vocab.add_bos.value_or(true), vocab.add_eos.value_or(false))},
              {"decoder", {{"type", "Sequence"}, {"decoders", std::move(decoders)}}},
              {"model", std::move(model)}};
}

absl::StatusOr<json> ByModel(const GgufVocab& vocab, const TokenIds& ids) {
  if (vocab.model == "gpt2") return ByteLevelTokenizer(vocab, ids);
  if (vocab.model == "llama") return SentencePieceTokenizer(vocab, ids);
  return absl::UnimplementedError(
      absl::StrCat("tokenizer.ggml.model is \"", vocab.model, "\"; known are gpt2 and llama"));
}

}  // namespace

absl::StatusOr<std::string> TokenizerJsonFromGguf(const GgufVocab& vocab) {
  ASSIGN_OR_RETURN(const TokenIds ids, IndexTokens(vocab));
  ASSIGN_OR_RETURN(json tokenizer, ByModel(vocab, ids));
  tokenizer["version"] = "1.0";
  tokenizer["truncation"] = nullptr;
  tokenizer["padding"] = nullptr;
  tokenizer["added_tokens"] = AddedTokens(vocab);
  return tokenizer.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace tandem
