#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace tandem {

enum class RopeScaling : uint8_t {
  kNone,
  kLinear,  // every frequency divided by `factor`
  kLlama3,  // low frequencies divided by `factor`, high ones kept, a ramp between
  kYarn,  // as kLlama3 but with a ramp over the pairs of a head, and rotations are `magnitude` long
  kDivisors  // frequency i divided by divisors[i], as GGUF files store the llama3 scaling
};

// Rotary position embedding over the whole head, pairs (i, i + head_dim / 2) of each head.
struct RopeSpec {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;            // kLinear, kLlama3, kYarn
  double low_freq_factor = 1.0;   // kLlama3
  double high_freq_factor = 4.0;  // kLlama3
  int32_t original_context = 0;   // kLlama3, kYarn; tokens
  // kYarn: pairs that turn beta_fast times or more within the original context keep their
  // frequency, those that turn up to beta_slow times have it divided; `truncate` takes whole pairs
  // as bounds.
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool truncate = true;
  double magnitude = 1.0;       // kYarn: what rotated q and k are multiplied by
  std::vector<float> divisors;  // kDivisors; [head_dim / 2]
};

// A model's shape and constants, read from config.json or from GGUF metadata. Data only: one
// forward pass (worker/model/decoder) runs any of these, and families.h says which weights a spec
// has. A new family adds its row there and the fields here that it needs.
struct ModelSpec {
  std::string family;        // the row of families.cc: "llama"
  std::string architecture;  // as the file spells it: "LlamaForCausalLM", "llama"
  int32_t layers = 0;
  int32_t dim = 0;  // width of the residual stream
  int32_t q_heads = 0;
  int32_t kv_heads = 0;  // divides q_heads
  int32_t head_dim = 0;  // even; q_heads * head_dim need not be dim
  int32_t ffn_dim = 0;
  int32_t vocab = 0;        // rows of the embedding: at least the tokenizer's tokens
  int32_t max_context = 0;  // tokens
  float norm_eps = 0;       // of every RMS norm
  RopeSpec rope;
  bool qkv_bias = false;         // q, k and v have biases
  bool o_bias = false;           // and o
  bool qk_norm = false;          // each q and k head is RMS-normed before it is rotated
  bool mlp_bias = false;         // gate, up and down have biases
  bool tied_embeddings = false;  // lm_head is the embedding
  int32_t bos_id = -1;           // -1: none
  int32_t pad_id = -1;           // -1: none
  std::vector<int32_t> eos_ids;  // each ends an answer
  // [layers]: the tokens that a row sees in a layer, the last of them its own, 0 for all before it
  // too. Empty: all, in every layer.
  std::vector<int32_t> windows;
};

}  // namespace tandem
