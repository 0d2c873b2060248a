#pragma once
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "worker/backend/backend.h"
#include "worker/model/decoder.h"
#include "worker/model/model_files.h"

namespace tandem {

// A model from files on a backend of its own, that one sequence at a time is fed to.
class SequenceRunner {
 public:
  struct Options {
    int32_t context = 128;            // tokens of a sequence at most, and rows of a Feed
    const ModelSpec* spec = nullptr;  // instead of the file's, for mutants
  };

  static absl::StatusOr<std::unique_ptr<SequenceRunner>> Open(const std::string& path,
                                                              std::unique_ptr<Backend> backend,
                                                              const Options& options) {
    std::unique_ptr<SequenceRunner> runner(new SequenceRunner(std::move(backend)));
    const uint32_t blocks = options.context / 16 + 1;
    for (uint32_t block = 0; block < blocks; ++block) runner->blocks_.push_back(BlockId{block});
    ASSIGN_OR_RETURN(const auto files, ModelFiles::Open(path));
    const auto find = [&](absl::string_view name, int layer) { return files->Weight(name, layer); };
    ASSIGN_OR_RETURN(
        runner->decoder_,
        Decoder::Load(
            options.spec == nullptr ? files->spec() : *options.spec, find, runner->backend_.get(),
            {.kv_blocks = blocks, .max_rows = options.context, .max_logit_rows = options.context}));
    return runner;
  }

  // The logits of the rows `wanted` of `tokens`, which follow what was fed before.
  absl::StatusOr<absl::Span<const float>> Feed(absl::Span<const int32_t> tokens,
                                               absl::Span<const int32_t> wanted) {
    const SequenceSlice slice{0, static_cast<int32_t>(tokens.size()), position_, blocks_};
    position_ += slice.rows;
    return decoder_->Forward({tokens, {&slice, 1}, wanted}, nullptr);
  }
  // The logits of all rows.
  absl::StatusOr<absl::Span<const float>> Feed(absl::Span<const int32_t> tokens) {
    std::vector<int32_t> all(tokens.size());
    std::iota(all.begin(), all.end(), 0);
    return Feed(tokens, all);
  }
  // What is fed next begins a new sequence.
  void Restart() { position_ = 0; }

 private:
  explicit SequenceRunner(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Decoder> decoder_;
  std::vector<BlockId> blocks_;
  int32_t position_ = 0;
};

}  // namespace tandem
