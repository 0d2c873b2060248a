#pragma once
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "kvstore/types.h"
#include "worker/backend/backend.h"
#include "worker/model/spec.h"

// What the engine runs: the decoder over real weights, or a stand-in in tests.
namespace tandem {

// One engine step's work. Rows of one sequence are neighbours, in order of position.
struct Batch {
  absl::Span<const int32_t> token_ids;     // [rows]
  absl::Span<const SequenceSlice> slices;  // cover all rows, in order
  absl::Span<const int32_t> logit_rows;    // rows whose logits are wanted, ascending
};

// Told, on the engine's thread, each time the KV of the whole batch is in the cache for one layer,
// while later layers are still to come.
class LayerObserver {
 public:
  virtual ~LayerObserver() = default;
  virtual void OnLayer(uint32_t layer) = 0;
};

//   bits    the logits of a row depend only on its sequence's tokens and positions
//   threads one at a time (the engine's)
class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelSpec& spec() const = 0;
  virtual BlockMemory* kv() = 0;
  // Largest batch, in rows, and largest logit_rows.
  virtual int32_t max_rows() const = 0;
  virtual int32_t max_logit_rows() const = 0;
  // Returns the logits, [logit_rows, vocab], valid until the next call. `observer` may be null.
  virtual absl::StatusOr<absl::Span<const float>> Forward(const Batch& batch,
                                                          LayerObserver* observer) = 0;
};

}  // namespace tandem
