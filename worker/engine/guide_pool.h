#pragma once
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/strings/string_view.h"
#include "base/queue.h"
#include "worker/engine/guide.h"
#include "worker/engine/guide_metrics.h"

namespace tandem {

// Of one output: what its sentence begins with.
struct GivenTokens {
  uint32_t output_index = 0;
  std::vector<int32_t> tokens;
};

// Two threads beside the engine's: one compiles grammars, one computes masks while the model runs.
// The tokenizer is loaded for the first grammar that comes.
//   life    the engine that uses it stops first; guides may outlive it, unused
//   errors  are those of a guide's grammar, told by `done`: InvalidArgument naming the field of the
//           request that has it, or `resume` where given tokens are not in the language or end its
//           sentence; FailedPrecondition without a usable tokenizer; Unavailable where kQueue
//           grammars wait already
//   threads any may call Begin
class GuidePool {
 public:
  static constexpr size_t kQueue = 4096;  // grammars, and masks, that wait
  static constexpr size_t kCached = 16;   // compiled grammars that are kept for the next request

  struct Options {
    // Without threads, each call does its part itself: for tests with a clock of their own.
    bool threads = true;
    const GuideMetrics* metrics = nullptr;  // null: nothing is counted
  };
  // `tokenizer_json` outlives the pool; `logits`: how many the model has.
  GuidePool(absl::string_view tokenizer_json, int32_t logits, Options options);
  ~GuidePool();

  // A guide for each of `given`, which is not empty, behind its tokens. `done` is called once, with
  // what became of them: by another thread, or before Begin returns. `stop_ids`: tokens
  // that end the output. Where nobody has the first guide any more, all are dropped without a call.
  std::vector<std::shared_ptr<Guide>> Begin(const GrammarSource& source,
                                            const std::vector<int32_t>& stop_ids,
                                            std::vector<GivenTokens> given,
                                            absl::AnyInvocable<void(absl::Status)> done);

 private:
  friend class Guide;
  struct Job {
    GrammarSource source;
    std::vector<GivenTokens> given;
    std::vector<std::weak_ptr<Guide>> guides;  // one each
    absl::AnyInvocable<void(absl::Status)> done;
  };
  struct Cached {
    GrammarSource source;
    std::shared_ptr<const Grammar> grammar;
  };

  void ComputeSoon(Guide* guide);
  void OnMask(absl::Duration took) const;
  void Run(Job& job);
  absl::Status Prepare(const Job& job);
  absl::StatusOr<std::shared_ptr<const Grammar>> Compile(const GrammarSource& source);
  absl::StatusOr<std::shared_ptr<const GrammarEnvironment>> Load() const;

  const absl::string_view tokenizer_json_;
  const int32_t logits_;
  const Options options_;

  // The compiling thread's.
  std::optional<absl::StatusOr<std::shared_ptr<const GrammarEnvironment>>> environment_;
  std::deque<Cached> cache_;  // the last used first

  BoundedQueue<Job> jobs_{kQueue};
  BoundedQueue<std::shared_ptr<Guide>> masks_{kQueue};
  std::thread compiling_, masking_;  // last: they use the rest
};

}  // namespace tandem
