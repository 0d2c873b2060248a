#include "worker/model/compare_weights.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/block_hash.h"
#include "base/status.h"
#include "text/tokenizer.h"
#include "worker/model/decoder.h"

namespace tandem {
namespace {

constexpr int32_t kChunk = 64;  // rows of a pass: bounds the memory that logits take

// One of the two models, and where its window's KV lies.
class Reader {
 public:
  static absl::StatusOr<std::unique_ptr<Reader>> Open(const ModelFiles& files, int32_t window,
                                                      const CompareOptions& options) {
    auto reader = std::make_unique<Reader>();
    ASSIGN_OR_RETURN(reader->backend_, MakeCpuBackend({.threads = options.threads,
                                                       .activations = options.activations}));
    const uint32_t tokens =
        KvGeometryOf(files.spec(), *reader->backend_, options.weights).block_tokens;
    const uint32_t blocks = (static_cast<uint32_t>(window) + tokens - 1) / tokens;
    for (uint32_t block = 0; block < blocks; ++block) reader->blocks_.push_back(BlockId{block});
    ASSIGN_OR_RETURN(reader->decoder_, Decoder::Load(files, reader->backend_.get(),
                                                     {.kv_blocks = blocks,
                                                      .max_rows = kChunk,
                                                      .max_logit_rows = kChunk,
                                                      .weights = options.weights}));
    return reader;
  }

  // The logits after each of `tokens`, which stand at `position` of the window and after it.
  absl::StatusOr<absl::Span<const float>> Read(absl::Span<const int32_t> tokens, int32_t position) {
    std::vector<int32_t> rows(tokens.size());
    std::iota(rows.begin(), rows.end(), 0);
    const SequenceSlice slice = {
        .rows = static_cast<int32_t>(tokens.size()), .position = position, .blocks = blocks_};
    return decoder_->Forward({tokens, {&slice, 1}, rows}, nullptr);
  }

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Decoder> decoder_;
  std::vector<BlockId> blocks_;
};

absl::StatusOr<std::vector<int32_t>> Tokens(const ModelFiles& files, absl::string_view text,
                                            size_t most) {
  const Asset* asset = files.assets().Find("tokenizer.json");
  if (asset == nullptr) {
    return absl::NotFoundError(
        absl::StrCat(files.path(), ": has no tokenizer to read a text with"));
  }
  ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::FromJson(asset->data));
  ASSIGN_OR_RETURN(std::vector<int32_t> tokens, tokenizer->Encode(text, {.add_special = true}));
  if (tokens.size() > most) tokens.resize(most);
  if (tokens.size() >= 2) return tokens;
  return absl::InvalidArgumentError("the text has fewer than two tokens: nothing to predict");
}

absl::StatusOr<LogitLoss> ReadBoth(Reader* stored, Reader* quantized, int32_t window,
                                   absl::Span<const int32_t> tokens) {
  LogitLossSum sum;
  for (size_t begin = 0; begin + 1 < tokens.size(); begin += window) {
    const absl::Span<const int32_t> here = tokens.subspan(begin, window);
    for (size_t at = 0; at + 1 < here.size(); at += kChunk) {
      const absl::Span<const int32_t> chunk = here.subspan(at, kChunk);
      const int32_t position = static_cast<int32_t>(at);
      ASSIGN_OR_RETURN(const auto right, stored->Read(chunk, position));
      ASSIGN_OR_RETURN(const auto approximate, quantized->Read(chunk, position));
      const size_t vocab = right.size() / chunk.size();
      for (size_t i = 0; i < chunk.size() && at + i + 1 < here.size(); ++i) {
        sum.Add(right.subspan(i * vocab, vocab), approximate.subspan(i * vocab, vocab),
                here[at + i + 1]);
      }
    }
  }
  return sum.Total();
}

}  // namespace

absl::StatusOr<WeightsComparison> CompareWeights(const ModelFiles& files, absl::string_view text,
                                                 const CompareOptions& options) {
  WeightsComparison comparison = {
      .weights = options.weights == WeightScheme::kStored ? "stored"
                                                          : std::string(NameOf(options.weights)),
      .activations = options.activations == Activations::kInt8 ? "int8" : "float32",
      .text_digest = Sha256Hex(text),
      .text_bytes = text.size(),
      .window = std::min(options.window, files.spec().max_context)};
  for (const NamedWeight& weight : files.weights()) {
    const int64_t elements = weight.view.rows * weight.view.cols;
    comparison.stored_bytes += weight.view.bytes;
    comparison.quantized_bytes +=
        weight.view.rows == 1
            ? weight.view.bytes
            : BytesFor(TypeUnder(options.weights, weight.name, weight.view), elements);
  }
  if (comparison.quantized_bytes == comparison.stored_bytes &&
      options.activations == Activations::kFloat32) {
    return absl::FailedPreconditionError(absl::StrCat(
        files.path(), ": ", comparison.weights, " changes none of its weights; those that are ",
        "quantised already stay as they are"));
  }
  ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, Tokens(files, text, options.tokens_max));
  comparison.text_tokens = tokens.size();
  ASSIGN_OR_RETURN(const auto stored,
                   Reader::Open(files, comparison.window,
                                {.weights = WeightScheme::kStored, .threads = options.threads}));
  ASSIGN_OR_RETURN(const auto quantized, Reader::Open(files, comparison.window, options));
  ASSIGN_OR_RETURN(comparison.loss,
                   ReadBoth(stored.get(), quantized.get(), comparison.window, tokens));
  return comparison;
}

std::string ComparisonText(const WeightsComparison& c) {
  const LogitLoss& loss = c.loss;
  const double percent = 100 * (loss.quantized_perplexity / loss.stored_perplexity - 1);
  return absl::StrCat(
      absl::StrFormat("compared       %s weights, %.1f MB, with %s activations; to the stored "
                      "ones, %.1f MB, with float32\n",
                      c.weights, c.quantized_bytes / 1e6, c.activations, c.stored_bytes / 1e6),
      absl::StrFormat("perplexity     %.4f of the stored weights, %.4f of these (%+.2f %%)\n",
                      loss.stored_perplexity, loss.quantized_perplexity, percent),
      absl::StrFormat("loss           %+.5f +- %.5f nats a token\n", loss.loss, loss.loss_error),
      absl::StrFormat("KL divergence  %.5f nats on average, %.4f at most\n", loss.kl_mean,
                      loss.kl_max),
      absl::StrFormat("same top token %.2f %% of the time\n", 100.0 * loss.same_top / loss.tokens),
      absl::StrFormat("on             %d tokens of a text of %d bytes (SHA-256 %s), in windows of "
                      "%d; %d were predicted\n",
                      c.text_tokens, c.text_bytes, c.text_digest, c.window, loss.tokens));
}

std::string ComparisonJson(const WeightsComparison& c) {
  const LogitLoss& loss = c.loss;
  const nlohmann::json json = {{"weights", c.weights},
                               {"activations", c.activations},
                               {"stored_bytes", c.stored_bytes},
                               {"quantized_bytes", c.quantized_bytes},
                               {"stored_perplexity", loss.stored_perplexity},
                               {"quantized_perplexity", loss.quantized_perplexity},
                               {"loss_nats", loss.loss},
                               {"loss_error_nats", loss.loss_error},
                               {"kl_mean_nats", loss.kl_mean},
                               {"kl_max_nats", loss.kl_max},
                               {"same_top", static_cast<double>(loss.same_top) / loss.tokens},
                               {"predicted_tokens", loss.tokens},
                               {"text_tokens", c.text_tokens},
                               {"text_bytes", c.text_bytes},
                               {"text_sha256", c.text_digest},
                               {"window", c.window}};
  return json.dump();
}

}  // namespace tandem
