#pragma once
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/backend/backend.h"
#include "worker/model/logit_loss.h"
#include "worker/model/model_files.h"
#include "worker/model/quantize.h"

namespace tandem {

// A text to measure models on: plain English prose, rules, a letter, a dialogue, a list and some
// code, written for this purpose, so that no model has seen it before. It never changes, so that
// figures stay comparable.
absl::string_view SampleText();

struct CompareOptions {
  WeightScheme weights = WeightScheme::kInt8;       // not kStored
  Activations activations = Activations::kFloat32;  // of both
  int threads = 0;                                  // 0: one a core
  int32_t window = 512;  // tokens; cut to the model's context. The first of each has no prediction
  size_t tokens_max = 4096;  // of the text; 2 or more
};

struct WeightsComparison {
  std::string weights;                             // the scheme
  std::string activations;                         // "float32" or "int8"
  uint64_t stored_bytes = 0, quantized_bytes = 0;  // of all weights
  std::string text_digest;                         // hex SHA-256 of the whole text
  uint64_t text_bytes = 0;
  size_t text_tokens = 0;  // that were read
  int32_t window = 0;
  LogitLoss loss;
};

// Reads `text` with the stored weights and with quantised ones, side by side, in windows that do
// not overlap: both are in memory. Takes a few seconds for a small model, minutes for a large one.
//   errors  FailedPrecondition where the options change nothing; InvalidArgument for a text that
//           is not UTF-8 or too short; NotFound for a model without a tokenizer; those of loading
absl::StatusOr<WeightsComparison> CompareWeights(const ModelFiles& files, absl::string_view text,
                                                 const CompareOptions& options);

// Some lines for a person, and a JSON object.
std::string ComparisonText(const WeightsComparison& comparison);
std::string ComparisonJson(const WeightsComparison& comparison);

}  // namespace tandem
