#include "worker/backend/sim/sim_model.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "base/mix.h"

namespace tandem {
namespace {

constexpr float kLargestLogit = 20;  // the others of a row are below it by 1 each

class SimMemory final : public BlockMemory {
 public:
  SimMemory(KvLayout layout, uint32_t blocks)
      : layout_(std::move(layout)), blocks_(blocks), bytes_(blocks * layout_.slice_bytes()) {}
  const KvLayout& layout() const override { return layout_; }
  uint32_t blocks() const override { return blocks_; }
  absl::Span<uint8_t> Slice(uint32_t, BlockId block) override {
    const size_t bytes = layout_.slice_bytes();
    return absl::MakeSpan(bytes_).subspan(static_cast<uint32_t>(block) * bytes, bytes);
  }
  void Clear(BlockId block) override {
    const absl::Span<uint8_t> slice = Slice(0, block);
    std::fill(slice.begin(), slice.end(), 0);
  }
  void Copy(BlockId from, BlockId to) override {
    std::memcpy(Slice(0, to).data(), Slice(0, from).data(), layout_.slice_bytes());
  }

 private:
  const KvLayout layout_;
  const uint32_t blocks_;
  std::vector<uint8_t> bytes_;
};

KvLayout LayoutOf(const SimModel::Options& options) {
  KvLayout layout = SimModel::KvGeometry();
  layout.kv_abi = options.kv_abi;
  layout.weights_digest = options.weights_digest;
  layout.tokenizer_digest = options.tokenizer_digest;
  return layout;
}

uint64_t MixAll(const std::string& bytes) {
  uint64_t mixed = 0;
  for (const char c : bytes)
    mixed = Mix(mixed + 0x9e3779b97f4a7c15 + static_cast<unsigned char>(c));
  return mixed;
}

}  // namespace

KvLayout SimModel::KvGeometry() {
  KvLayout layout;
  layout.dtype = "f32";
  layout.layers = layout.kv_heads = layout.head_dim = 1;  // k and v of a token are a hash's halves
  layout.version = 1;
  layout.numerics_class = "sim-1";
  return layout;
}

absl::StatusOr<std::unique_ptr<SimModel>> SimModel::Create(const ModelSpec& spec, Options options) {
  if (options.kv_blocks < 1 || options.max_rows < 1 || options.max_logit_rows < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("sim: want kv_blocks, max_rows and max_logit_rows above 0, found ",
                     options.kv_blocks, ", ", options.max_rows, " and ", options.max_logit_rows));
  }
  if (spec.vocab <= kLikely + static_cast<int64_t>(spec.eos_ids.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("sim: a vocabulary of ", spec.vocab, " is too small"));
  }
  return absl::WrapUnique(new SimModel(spec, std::move(options)));
}

SimModel::SimModel(const ModelSpec& spec, Options options)
    : spec_(spec),
      options_(std::move(options)),
      weights_(MixAll(options_.weights_digest)),
      memory_(std::make_unique<SimMemory>(LayoutOf(options_), options_.kv_blocks)),
      logits_(static_cast<size_t>(options_.max_logit_rows) * spec.vocab) {}

absl::Duration SimModel::TimeOf(const Batch& batch) const {
  absl::Duration time = options_.timing.step;
  for (const SequenceSlice& slice : batch.slices) {
    time += slice.rows == 1 ? options_.timing.decode_row : options_.timing.prefill_row * slice.rows;
  }
  return time;
}

uint64_t* SimModel::HashAt(const SequenceSlice& slice, int32_t position) {
  const int32_t block_tokens = static_cast<int32_t>(memory_->layout().block_tokens);
  uint8_t* bytes = memory_->Slice(0, slice.blocks[position / block_tokens]).data();
  return reinterpret_cast<uint64_t*>(bytes) + position % block_tokens;
}

void SimModel::Store(const SequenceSlice& slice, const Batch& batch) {
  uint64_t hash = slice.position > 0 ? *HashAt(slice, slice.position - 1) : 0;
  for (int32_t row = 0; row < slice.rows; ++row) {
    const uint64_t token = batch.token_ids[slice.first_row + row];
    hash = Mix(hash + weights_ + 0x9e3779b97f4a7c15 * (token + 1));
    *HashAt(slice, slice.position + row) = hash;
  }
}

void SimModel::MakeLogits(uint64_t hash, size_t row) {
  const absl::Span<float> logits =
      absl::MakeSpan(logits_).subspan(row * spec_.vocab, static_cast<size_t>(spec_.vocab));
  for (int given = 0; given < kLikely;) {
    hash = Mix(hash + 0x9e3779b97f4a7c15);
    const size_t token = hash % logits.size();
    const bool ends =
        std::find(spec_.eos_ids.begin(), spec_.eos_ids.end(), token) != spec_.eos_ids.end();
    if (ends || logits[token] > 0) continue;
    logits[token] = kLargestLogit - static_cast<float>(given++);
    likely_.push_back(row * spec_.vocab + token);
  }
}

absl::StatusOr<absl::Span<const float>> SimModel::Forward(const Batch& batch,
                                                          LayerObserver* observer) {
  if (batch.token_ids.size() > static_cast<size_t>(options_.max_rows) ||
      batch.logit_rows.size() > static_cast<size_t>(options_.max_logit_rows)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "sim: ", batch.token_ids.size(), " rows, ", batch.logit_rows.size(),
        " with logits, want up to ", options_.max_rows, " and ", options_.max_logit_rows));
  }
  options_.wait(TimeOf(batch));
  for (const SequenceSlice& slice : batch.slices) Store(slice, batch);
  if (observer != nullptr) observer->OnLayer(0);
  for (const size_t one : std::exchange(likely_, {})) logits_[one] = 0;
  size_t slice = 0;
  for (size_t i = 0; i < batch.logit_rows.size(); ++i) {
    const int32_t row = batch.logit_rows[i];
    while (row >= batch.slices[slice].first_row + batch.slices[slice].rows) ++slice;
    const SequenceSlice& of = batch.slices[slice];
    MakeLogits(*HashAt(of, of.position + row - of.first_row), i);
  }
  return absl::MakeConstSpan(logits_).first(batch.logit_rows.size() * spec_.vocab);
}

}  // namespace tandem
