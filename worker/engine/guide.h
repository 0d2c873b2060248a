#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "text/grammar.h"

namespace tandem {

class GuidePool;

// Holds one output to its grammar. What it allows depends on the grammar, the output's tokens and
// its stop ids alone.
//   life    GuidePool::Begin -> compiled: `done` is called -> Mask and Advance in turn -> Advance
//           returns true, or an error, or the sequence ends some other way
//   errors  name the field of the request: InvalidArgument where no token goes on, or at the limits
//           of text/grammar.h; Internal for a bug of ours. After an error it is of no use
//   threads Mask, Advance and Fork the engine's. Between them, one of the pool's computes the next
//           mask: mu_ says whose matcher_ and mask_ are
class Guide : public std::enable_shared_from_this<Guide> {
 public:
  Guide(GuidePool* pool, absl::string_view field, std::vector<int32_t> stop_ids)
      : pool_(pool), field_(field), stop_ids_(std::move(stop_ids)) {}

  // One bit for each logit, 32 to a word, at least one of them set: what may stand next. A stop id
  // may where the sentence may end, and nowhere else. Waits for the pool if it is at it, and
  // computes the mask itself if the pool has not begun.
  absl::StatusOr<absl::Span<const uint32_t>> Mask() ABSL_LOCKS_EXCLUDED(mu_);
  // Goes on behind `token`, no stop id. Returns whether the sentence is complete and nothing can
  // follow; else the pool computes the next mask.
  absl::StatusOr<bool> Advance(int32_t token) ABSL_LOCKS_EXCLUDED(mu_);
  // One for another output, which has come as far. Called where Mask may be.
  absl::StatusOr<std::shared_ptr<Guide>> Fork() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  friend class GuidePool;
  enum class State : uint8_t {
    kUnset,      // matcher_ is the engine's, or the compiler's
    kQueued,     // matcher_ and mask_ belong to who makes it kComputing
    kComputing,  // they are being used
    kSet,        // matcher_ and mask_ are the engine's
  };

  void Start(std::unique_ptr<GrammarMatcher> matcher) ABSL_LOCKS_EXCLUDED(mu_);
  void ComputeIfQueued() ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Compute();  // writes mask_

  GuidePool* const pool_;
  const absl::string_view field_;  // of the request; its errors begin with it
  const std::vector<int32_t> stop_ids_;
  std::unique_ptr<GrammarMatcher> matcher_;
  std::vector<uint32_t> mask_;
  absl::Status status_;  // of mask_

  Mutex mu_;
  CondVar computed_;
  State state_ ABSL_GUARDED_BY(mu_) = State::kUnset;
};

}  // namespace tandem
