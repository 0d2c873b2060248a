#pragma once
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "text/tokenizer.h"

// Tokenizers of every kind that real models have, small enough to be written here.
namespace tandem {

// GPT-2's kind: 256 bytes, a few merges. Special: <s> <|im_start|> <|im_end|>; added but not
// special: <think> </think> and a run of four blanks. There is a hole in the ids. `add_special`
// puts <s> first.
std::string ByteLevelJson();

// Llama 2's kind: SentencePiece BPE with byte fallback, the blank written U+2581 and one put in
// front. Special: <s> </s>.
std::string ByteFallbackJson();

// Unigram over whole words: its model knows the control token </s> as a word of its own.
std::string UnigramJson();

std::shared_ptr<const Tokenizer> MustLoad(const std::string& json);

// One text a script, with emoji, combining marks, right-to-left runs, controls and blanks.
std::vector<std::string> MultilingualTexts();

// Up to `pieces` picks from `alphabet`, joined.
std::string RandomText(std::mt19937& random, const std::vector<std::string>& alphabet, int pieces);

}  // namespace tandem
