#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "worker/model/model_files.h"

namespace tandem {

struct InspectOptions {
  int kv_element_bytes = 4;   // of one number in the KV cache
  uint64_t memory_bytes = 0;  // what the model may use; 0: say nothing about fitting
};

// What a model is and what running it takes: what `tandem models inspect` shows.
struct Inspection {
  std::string path;
  std::string format;  // "safetensors" or "gguf"
  std::string family;
  std::string architecture;
  std::string attention;       // heads, biases and windows, in words
  std::string rope;            // rotary embedding, in words
  std::string license;         // "" where the model states none
  std::string tokenizer;       // its kind, such as BPE; "" where there is none
  int32_t tokenizer_size = 0;  // tokens
  bool chat_template = false;
  bool license_text = false;  // the model has a LICENSE
  int64_t parameters = 0;
  std::map<std::string, uint64_t> weight_bytes;  // by storage type
  uint64_t total_weight_bytes = 0;
  uint64_t kv_bytes_per_token = 0;
  int32_t vocab = 0;
  int32_t max_context = 0;      // tokens
  uint64_t memory_bytes = 0;    // as given; 0: not given
  int64_t tokens_that_fit = 0;  // KV of all sequences together, beside the weights
  bool fits = false;            // the weights and the KV of one token at least
};

Inspection Inspect(const ModelFiles& files, const InspectOptions& options);

// A few lines for a person, and one JSON object.
std::string InspectionText(const Inspection& inspection);
std::string InspectionJson(const Inspection& inspection);

}  // namespace tandem
