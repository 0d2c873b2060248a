#include "tests/support/byte_tokenizer.h"

#include <nlohmann/json.hpp>

namespace tandem {
namespace {

using nlohmann::json;

std::string Utf8(uint32_t c) {
  if (c < 0x80) return std::string(1, static_cast<char>(c));
  return {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
}

// GPT-2's stand-in for each byte: printable ones stand for themselves, the rest follow at 256.
json ByteVocabulary() {
  json vocabulary;
  uint32_t next = 256;
  for (uint32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    vocabulary[Utf8(printable ? b : next++)] = b;
  }
  return vocabulary;
}

json Special(int id, const std::string& content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

}  // namespace

std::string ByteTokenizerJson() {
  const json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", false}};
  json vocabulary = ByteVocabulary();
  vocabulary["<|im_start|>"] = kImStart;
  vocabulary["<|im_end|>"] = kImEnd;
  const json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"vocab", vocabulary},
                      {"merges", json::array()},
                      {"byte_fallback", false},
                      {"fuse_unk", false},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"ignore_merges", false}};
  const json tokenizer = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", {Special(kImStart, "<|im_start|>"), Special(kImEnd, "<|im_end|>")}},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level},
      {"post_processor", nullptr},
      {"decoder", byte_level},
      {"model", model}};
  return tokenizer.dump();
}

std::string ByteChatTemplate() {
  return "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
         "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
}

std::vector<int32_t> Bytes(absl::string_view text) {
  std::vector<int32_t> out;
  for (const char c : text) out.push_back(static_cast<unsigned char>(c));
  return out;
}

}  // namespace tandem
