#pragma once
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "worker/model/families.h"
#include "worker/model/spec.h"
#include "worker/model/weight_view.h"

namespace tandem {

// A small model of random float32 weights in memory, for tests that need a real forward pass but no
// file. A weight depends on the seed, its name and its layer only.
class RandomModel {
 public:
  static ModelSpec SmallSpec() {
    ModelSpec spec;
    spec.family = "llama";
    spec.architecture = "LlamaForCausalLM";
    spec.layers = 2;
    spec.dim = 48;
    spec.q_heads = 6;
    spec.kv_heads = 2;
    spec.head_dim = 8;
    spec.ffn_dim = 72;
    spec.vocab = 101;
    spec.max_context = 256;
    spec.norm_eps = 1e-5f;
    spec.tied_embeddings = true;
    spec.eos_ids = {2};
    return spec;
  }

  explicit RandomModel(ModelSpec spec, uint32_t seed = 1) : spec_(std::move(spec)), seed_(seed) {
    for (const WeightRule& rule : (*FamilyOfHf(spec_.architecture))->weights) {
      if (!HasWeight(spec_, rule)) continue;
      const int layers = rule.per_layer() ? spec_.layers : 1;
      for (int i = 0; i < layers; ++i) Add(rule, rule.per_layer() ? i : -1);
    }
  }

  const ModelSpec& spec() const { return spec_; }

  absl::StatusOr<WeightView> Find(absl::string_view name, int layer) const {
    const auto found = weights_.find({std::string(name), layer});
    if (found == weights_.end()) return absl::NotFoundError(absl::StrCat("no weight ", name));
    return found->second.view;
  }

 private:
  struct Weight {
    std::vector<float> values;
    WeightView view;
  };

  void Add(const WeightRule& rule, int layer) {
    Weight& weight = weights_[{std::string(rule.name), layer}];
    const int64_t rows = ExtentOf(spec_, rule.rows), cols = ExtentOf(spec_, rule.cols);
    const bool is_norm = absl::StrContains(rule.name, "norm");
    std::normal_distribution<float> normal(is_norm ? 1.f : 0.f, is_norm ? 0.2f : 0.25f);
    std::seed_seq seed(rule.name.begin(), rule.name.end());
    std::vector<uint32_t> words(2);
    seed.generate(words.begin(), words.end());
    std::mt19937 random(words[0] + 1000003 * seed_ + 7919 * layer);
    weight.values.resize(rows * cols);
    for (float& value : weight.values) value = normal(random);
    weight.view = {.name = std::string(rule.name),
                   .dtype = DType::kF32,
                   .rows = rows,
                   .cols = cols,
                   .data = reinterpret_cast<const uint8_t*>(weight.values.data()),
                   .bytes = weight.values.size() * sizeof(float)};
  }

  const ModelSpec spec_;
  const uint32_t seed_;
  std::map<std::pair<std::string, int>, Weight> weights_;
};

}  // namespace tandem
