#include "tests/text/tiny_tokenizer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace tandem {
namespace {

using nlohmann::json;

std::string Utf8(uint32_t c) {
  if (c < 0x80) return std::string(1, static_cast<char>(c));
  return {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
}

// GPT-2's stand-in for each byte: printable ones stand for themselves, the rest follow at 256.
std::vector<std::string> ByteAlphabet() {
  std::vector<std::string> alphabet;
  uint32_t next = 256;
  for (uint32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    alphabet.push_back(Utf8(printable ? b : next++));
  }
  return alphabet;
}

json Added(int id, const std::string& content, bool special) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

json Assemble(json model, json added) {
  return {{"version", "1.0"},          {"truncation", nullptr}, {"padding", nullptr},
          {"added_tokens", added},     {"normalizer", nullptr}, {"pre_tokenizer", nullptr},
          {"post_processor", nullptr}, {"decoder", nullptr},    {"model", model}};
}

json BosFirst(const std::string& bos, int id) {
  return {{"type", "TemplateProcessing"},
          {"single",
           {{{"SpecialToken", {{"id", bos}, {"type_id", 0}}}},
            {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
          {"pair", json::array()},
          {"special_tokens", {{bos, {{"id", bos}, {"ids", {id}}, {"tokens", {bos}}}}}}};
}

json BlankToMetaspaceDecoder() {
  return {{"type", "Sequence"},
          {"decoders",
           {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
            {{"type", "ByteFallback"}},
            {{"type", "Fuse"}},
            {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
}

}  // namespace

std::string ByteLevelJson() {
  json vocab;
  int id = 0;
  for (const std::string& token : ByteAlphabet()) vocab[token] = id++;
  json merges = json::array();
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {"\u0120", "w"}, {"<", "|"}, {"|", ">"}};
  for (const auto& [left, right] : pairs) {
    merges.push_back({left, right});
    vocab[left + right] = id++;
  }
  const json added = {Added(id, "<s>", true),
                      Added(id + 1, "<|im_start|>", true),
                      Added(id + 2, "<|im_end|>", true),
                      Added(id + 3, "<think>", false),
                      Added(id + 4, "</think>", false),
                      Added(id + 5, "    ", false)};
  for (const json& token : added) vocab[token["content"].get<std::string>()] = token["id"];
  vocab["hole-before"] = id + 8;
  json model = {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", nullptr},
                {"vocab", vocab},
                {"merges", merges},
                {"byte_fallback", false},
                {"fuse_unk", false},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"ignore_merges", false}};
  json tokenizer = Assemble(model, added);
  tokenizer["pre_tokenizer"] = {{"type", "ByteLevel"},
                                {"add_prefix_space", false},
                                {"trim_offsets", true},
                                {"use_regex", true}};
  tokenizer["decoder"] = tokenizer["pre_tokenizer"];
  tokenizer["post_processor"] = BosFirst("<s>", id);
  return tokenizer.dump();
}

std::string ByteFallbackJson() {
  json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  int id = 3;
  for (int b = 0; b < 256; ++b) {
    char token[8];
    std::snprintf(token, sizeof token, "<0x%02X>", b);
    vocab[token] = id++;
  }
  for (const char* word : {"\u2581", "h", "i", "a", "b", "<", ">", "s", "/", "hi", "\u2581hi"}) {
    vocab[word] = id++;
  }
  json merges = json::array();
  merges.push_back({"h", "i"});
  merges.push_back({"\u2581", "hi"});
  json model = {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", "<unk>"},
                {"vocab", vocab},
                {"merges", merges},
                {"byte_fallback", true},
                {"fuse_unk", true},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"ignore_merges", false}};
  json tokenizer =
      Assemble(model, {Added(0, "<unk>", true), Added(1, "<s>", true), Added(2, "</s>", true)});
  tokenizer["normalizer"] = {
      {"type", "Sequence"},
      {"normalizers",
       {{{"type", "Prepend"}, {"prepend", "\u2581"}},
        {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}}};
  tokenizer["decoder"] = BlankToMetaspaceDecoder();
  tokenizer["post_processor"] = BosFirst("<s>", 1);
  return tokenizer.dump();
}

std::string UnigramJson() {
  json list = json::array({{"<unk>", 0.0}, {"</s>", -1.0}});
  for (const char* piece : {"<", "/", "s", ">", "a", "b", "\u2581", "ab"}) {
    list.push_back({piece, -5.0});
  }
  json tokenizer =
      Assemble({{"type", "Unigram"}, {"unk_id", 0}, {"vocab", list}, {"byte_fallback", false}},
               {Added(0, "<unk>", true), Added(1, "</s>", true)});
  tokenizer["pre_tokenizer"] = {{"type", "Metaspace"},
                                {"replacement", "\u2581"},
                                {"prepend_scheme", "always"},
                                {"split", true}};
  tokenizer["decoder"] = tokenizer["pre_tokenizer"];
  return tokenizer.dump();
}

std::shared_ptr<const Tokenizer> MustLoad(const std::string& json) {
  absl::StatusOr<std::shared_ptr<const Tokenizer>> tokenizer = Tokenizer::FromJson(json);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::vector<std::string> MultilingualTexts() {
  return {
      "",
      "hello world",
      "The quick brown fox, it's 12345 times (quicker)!",
      "你好，世界。今天天气很好。",
      "こんにちは世界 ｶﾀｶﾅ",
      "Привет, мир! Ёлки-палки",
      "שלום עולם مرحبا بالعالم",
      "नमस्ते दुनिया ไทยไม่มีช่องว่าง",
      "e\u0301 vs \u00e9, Z\u0351\u0343a\u030al\u0300go",
      "\U0001F469\u200D\U0001F469\u200D\U0001F467\u200D\U0001F466 \U0001F1E9\U0001F1EA \U0001F600",
      "tabs\tand\r\nnewlines\n\n\n  and    blanks   ",
      " leading and trailing ",
      std::string("a\0b\x01\x7f", 5),
      "\u2581 a real U+2581 and \uFFFD and \uFEFF",
      "x = {\"a\": [1, 2.5e-3, null]};  // code\n\tif (x->y != 0) return;",
  };
}

std::string RandomText(std::mt19937& random, const std::vector<std::string>& alphabet, int pieces) {
  std::string text;
  for (int left = static_cast<int>(random() % (pieces + 1)); left > 0; --left) {
    text += alphabet[random() % alphabet.size()];
  }
  return text;
}

}  // namespace tandem
