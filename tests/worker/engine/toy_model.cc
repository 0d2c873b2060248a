#include "tests/worker/engine/toy_model.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "worker/sampler/adjust.h"

namespace tandem {
namespace {

struct Entry {  // what one layer of the cache holds for one position
  int32_t token_plus_one;
  int32_t position_plus_one;
};

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

uint64_t Extend(uint64_t hash, uint32_t layer, Entry entry) {
  return Mix(hash * 31 + Mix(layer * 1000003ull + entry.token_plus_one) + entry.position_plus_one);
}

std::vector<float> LogitsOf(uint64_t hash) {
  std::vector<float> logits(ToyModel::kVocab);
  for (size_t i = 0; i < logits.size(); ++i) {
    logits[i] = static_cast<float>(Mix(hash + i * 7919) >> 40) * 0x1p-21f;  // [0, 8)
  }
  return logits;
}

KvLayout ToyLayout(uint64_t weights) {
  KvLayout layout;
  layout.kv_abi = absl::StrCat("toy ", weights);
  layout.dtype = "f32";
  layout.layers = ToyModel::kLayers;
  layout.kv_heads = 1;
  layout.head_dim = 1;
  layout.version = 1;
  return layout;
}

}  // namespace

ToyMemory::ToyMemory(KvLayout layout, uint32_t blocks)
    : layout_(std::move(layout)),
      blocks_(blocks),
      bytes_(size_t{layout_.layers} * blocks * layout_.slice_bytes(), 0xee) {}

absl::Span<uint8_t> ToyMemory::Slice(uint32_t layer, BlockId block) {
  const size_t bytes = layout_.slice_bytes();
  const size_t at = (size_t{layer} * blocks_ + static_cast<uint32_t>(block)) * bytes;
  return absl::MakeSpan(bytes_).subspan(at, bytes);
}

void ToyMemory::Clear(BlockId block) {
  ++cleared;
  for (uint32_t layer = 0; layer < layout_.layers; ++layer) {
    const absl::Span<uint8_t> slice = Slice(layer, block);
    std::fill(slice.begin(), slice.end(), 0);
  }
}

void ToyMemory::Copy(BlockId from, BlockId to) {
  ++copied;
  for (uint32_t layer = 0; layer < layout_.layers; ++layer) {
    const absl::Span<uint8_t> source = Slice(layer, from);
    std::copy(source.begin(), source.end(), Slice(layer, to).begin());
  }
}

ToyModel::ToyModel(const Options& options)
    : options_(options), memory_(ToyLayout(options.weights), options.blocks) {
  spec_.family = "toy";
  spec_.architecture = "ToyForCausalLM";
  spec_.layers = kLayers;
  spec_.vocab = kVocab;
  spec_.max_context = 512;
  spec_.eos_ids = {0};
}

void ToyModel::Check(bool ok, absl::string_view what) {
  if (!ok) faults.emplace_back(what);
}

void ToyModel::CheckBatch(const Batch& batch) {
  const int32_t rows = static_cast<int32_t>(batch.token_ids.size());
  largest_batch = std::max(largest_batch, rows);
  this->rows += rows;
  Check(rows > 0 && rows <= max_rows(), "rows");
  Check(static_cast<int32_t>(batch.logit_rows.size()) <= max_logit_rows(), "logit rows");
  Check(std::is_sorted(batch.logit_rows.begin(), batch.logit_rows.end()), "logit row order");
  int32_t next = 0;
  for (const SequenceSlice& slice : batch.slices) {
    Check(slice.first_row == next && slice.rows > 0, "slices do not cover the rows in order");
    Check((slice.position + slice.rows + 15) / 16 == static_cast<int32_t>(slice.blocks.size()),
          "the slice's blocks do not end with its last position");
    next += slice.rows;
  }
  Check(next == rows, "slices do not cover all rows");
}

void ToyModel::Store(const SequenceSlice& slice, const Batch& batch, uint32_t layer) {
  for (int32_t row = 0; row < slice.rows; ++row) {
    const int32_t position = slice.position + row;
    Entry entry;
    uint8_t* at =
        memory_.Slice(layer, slice.blocks[position / 16]).data() + (position % 16) * sizeof(Entry);
    std::memcpy(&entry, at, sizeof(entry));
    Check(entry.token_plus_one == 0, "a position is computed twice, or its block was not cleared");
    entry = {batch.token_ids[slice.first_row + row] + 1, position + 1};
    std::memcpy(at, &entry, sizeof(entry));
  }
}

std::vector<float> ToyModel::LogitsAt(const SequenceSlice& slice, int32_t row) {
  uint64_t hash = options_.weights;
  for (int32_t position = 0; position <= slice.position + row; ++position) {
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      Entry entry;
      std::memcpy(&entry,
                  memory_.Slice(layer, slice.blocks[position / 16]).data() +
                      (position % 16) * sizeof(Entry),
                  sizeof(entry));
      Check(entry.position_plus_one == position + 1, "the cache lacks a position");
      hash = Extend(hash, layer, entry);
    }
  }
  return LogitsOf(hash);
}

absl::StatusOr<absl::Span<const float>> ToyModel::Forward(const Batch& batch,
                                                          LayerObserver* observer) {
  CheckBatch(batch);
  if (options_.clock != nullptr) {
    options_.clock->Advance(options_.per_step +
                            options_.per_row * static_cast<int64_t>(batch.token_ids.size()));
  }
  if (std::exchange(fail_next, false)) return absl::InternalError("the toy broke");
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    for (const SequenceSlice& slice : batch.slices) Store(slice, batch, layer);
    if (observer != nullptr) observer->OnLayer(layer);
  }
  logits_.clear();
  size_t slice = 0;
  for (const int32_t row : batch.logit_rows) {
    while (row >= batch.slices[slice].first_row + batch.slices[slice].rows) ++slice;
    const std::vector<float> logits =
        LogitsAt(batch.slices[slice], row - batch.slices[slice].first_row);
    logits_.insert(logits_.end(), logits.begin(), logits.end());
  }
  return absl::MakeConstSpan(logits_);
}

ToyAnswer ExpectedAnswer(const EngineRequest& request, uint32_t output, uint64_t weights) {
  uint64_t hash = weights;
  int32_t position = 0;
  return ExpectedAnswer(request, output, [&](int32_t token) {
    ++position;
    for (uint32_t layer = 0; layer < ToyModel::kLayers; ++layer) {
      hash = Extend(hash, layer, {token + 1, position});
    }
    return LogitsOf(hash);
  });
}

ToyAnswer ExpectedAnswer(const EngineRequest& request, uint32_t output,
                         const LogitsAfter& logits_after) {
  ToyAnswer answer;
  LogitAdjuster adjuster;
  Sampler sampler;
  std::vector<int32_t> tokens = request.prompt;
  if (request.prompt_logprobs) answer.prompt_logprobs.emplace_back();
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::vector<float> logits = logits_after(tokens[i]);
    if (i + 1 < request.prompt.size()) {
      if (request.prompt_logprobs) {
        answer.prompt_logprobs.push_back(
            MakeLogprobs(logits, tokens[i + 1], *request.prompt_logprobs));
      }
      continue;
    }
    const uint32_t position = static_cast<uint32_t>(answer.token_ids.size());
    const bool may_stop = position >= request.min_tokens;
    const absl::Span<const float> adjusted =
        *adjuster.Adjust(logits, request.sampling,
                         {request.prompt, answer.token_ids,
                          may_stop ? absl::Span<const int32_t>() : request.stop_ids});
    const int32_t token = *sampler.Sample(adjusted, request.sampling, output, position);
    answer.token_ids.push_back(token);
    if (request.logprobs) {
      answer.logprobs.push_back(MakeLogprobs(logits, token, *request.logprobs));
    }
    answer.stopped = std::binary_search(request.stop_ids.begin(), request.stop_ids.end(), token);
    if (answer.stopped || answer.token_ids.size() == request.max_tokens) break;
    tokens.push_back(token);
  }
  return answer;
}

}  // namespace tandem
