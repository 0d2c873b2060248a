#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/backend/backend.h"
#include "worker/backend/cpu/block_memory.h"
#include "worker/backend/cpu/huge_pages.h"
#include "worker/backend/cpu/weights.h"
#include "worker/model/dequant.h"

// Each operation as its definition reads: one loop per sum, in double, rounded once at the end.
namespace tandem {
namespace {

// Weights as they are stored, in the model's row order.
class ReferenceMatrix final : public Matrix {
 public:
  explicit ReferenceMatrix(absl::Span<const WeightView> parts)
      : Matrix(TotalRows(parts), parts[0].cols) {
    for (const WeightView& part : parts) {
      const size_t row_bytes = BytesFor(part.dtype, part.cols);
      for (int64_t i = 0; i < part.rows; ++i) {
        rows_.push_back({part.dtype, {part.Row(i), part.Row(i) + row_bytes}});
      }
    }
  }

  std::vector<float> Row(int64_t index) const {
    std::vector<float> values(cols());
    Dequantize(rows_[index].dtype, rows_[index].stored.data(), absl::MakeSpan(values));
    return values;
  }

 private:
  struct StoredRow {
    DType dtype;
    std::vector<uint8_t> stored;
  };
  std::vector<StoredRow> rows_;
};

class ReferenceVector final : public Vector {
 public:
  explicit ReferenceVector(std::vector<float> values)
      : Vector(static_cast<int64_t>(values.size())), values_(std::move(values)) {}
  const std::vector<float>& values() const { return values_; }

 private:
  const std::vector<float> values_;
};

const std::vector<float>& ValuesOf(const Vector& vector) {
  return static_cast<const ReferenceVector&>(vector).values();
}

// Rotates one head by `position`.
void Rotate(float* head, int32_t head_dim, int64_t position, const std::vector<float>& inv_freq) {
  const int32_t half = head_dim / 2;
  for (int32_t i = 0; i < half; ++i) {
    const float angle = static_cast<float>(position) * inv_freq[i];
    const double cosine = static_cast<float>(std::cos(double{angle}));
    const double sine = static_cast<float>(std::sin(double{angle}));
    const double a = head[i], b = head[i + half];
    head[i] = static_cast<float>(a * cosine - b * sine);
    head[i + half] = static_cast<float>(b * cosine + a * sine);
  }
}

// `out` may be `x`.
void Norm(const float* x, const std::vector<float>& weight, float eps, float* out) {
  double squares = 0;
  for (size_t i = 0; i < weight.size(); ++i) squares += double{x[i]} * x[i];
  const double scale = 1 / std::sqrt(squares / static_cast<double>(weight.size()) + eps);
  for (size_t i = 0; i < weight.size(); ++i) out[i] = static_cast<float>(x[i] * scale * weight[i]);
}

class ReferenceBackend final : public Backend {
 public:
  std::string numerics_class() const override { return "cpu-reference-1"; }

  absl::StatusOr<std::unique_ptr<Matrix>> PackMatrix(absl::Span<const WeightView> parts) override {
    RETURN_IF_ERROR(CheckMatrixParts(parts));
    return std::make_unique<ReferenceMatrix>(parts);
  }
  absl::StatusOr<std::unique_ptr<Vector>> PackVector(absl::Span<const WeightView> parts) override {
    ASSIGN_OR_RETURN(std::vector<float> values, VectorValues(parts));
    return std::make_unique<ReferenceVector>(std::move(values));
  }
  absl::StatusOr<std::unique_ptr<Vector>> MakeVector(absl::Span<const float> values) override {
    return std::make_unique<ReferenceVector>(std::vector<float>(values.begin(), values.end()));
  }

  KvLayout KvGeometry(uint32_t layers, uint32_t kv_heads, uint32_t head_dim) const override {
    KvLayout layout = CpuKvGeometry(layers, kv_heads, head_dim);
    layout.numerics_class = numerics_class();
    return layout;
  }
  absl::StatusOr<float*> AllocateActivations(int64_t elements) override {
    ASSIGN_OR_RETURN(uint8_t* const data, arena_.Allocate(elements * sizeof(float)));
    return reinterpret_cast<float*>(data);
  }
  absl::StatusOr<std::unique_ptr<BlockMemory>> AllocateKv(const KvLayout& layout,
                                                          uint32_t blocks) override {
    return CpuBlockMemory::Create(layout, blocks);
  }

  absl::Status Synchronize() override { return absl::OkStatus(); }

 private:
  void DoEmbed(const Matrix& table, absl::Span<const int32_t> ids, Tensor out) override {
    for (size_t i = 0; i < ids.size(); ++i) {
      const std::vector<float> row = static_cast<const ReferenceMatrix&>(table).Row(ids[i]);
      std::memcpy(out.data + i * out.cols, row.data(), row.size() * sizeof(float));
    }
  }

  void DoRmsNorm(Tensor x, const Vector& weight, float eps, Tensor out) override {
    for (int64_t r = 0; r < x.rows; ++r) {
      Norm(x.data + r * x.cols, ValuesOf(weight), eps, out.data + r * x.cols);
    }
  }

  void DoNormHeads(Tensor qkv, const AttentionShape& shape, const Vector& q_weight,
                   const Vector& k_weight, float eps) override {
    for (int64_t r = 0; r < qkv.rows; ++r) {
      for (int32_t h = 0; h < shape.q_heads + shape.kv_heads; ++h) {
        float* const head = qkv.data + r * qkv.cols + h * shape.head_dim;
        Norm(head, ValuesOf(h < shape.q_heads ? q_weight : k_weight), eps, head);
      }
    }
  }

  void DoLinear(const Matrix& w, Tensor x, const Vector* bias, bool accumulate,
                Tensor out) override {
    for (int64_t n = 0; n < w.rows(); ++n) {
      const std::vector<float> row = static_cast<const ReferenceMatrix&>(w).Row(n);
      for (int64_t r = 0; r < x.rows; ++r) {
        const float* const in = x.data + r * x.cols;
        float* const to = out.data + r * out.cols + n;
        double sum = 0;
        for (int64_t k = 0; k < x.cols; ++k) sum += double{row[k]} * in[k];
        if (bias != nullptr) sum += ValuesOf(*bias)[n];
        if (accumulate) sum += *to;
        *to = static_cast<float>(sum);
      }
    }
  }

  void DoRopeAndStoreKv(Tensor qkv, const AttentionShape& shape, const Vector& inv_freq,
                        absl::Span<const SequenceSlice> slices, uint32_t layer,
                        BlockMemory* kv) override {
    for (const SequenceSlice& slice : slices) {
      for (int32_t i = 0; i < slice.rows; ++i) {
        const int32_t position = slice.position + i;
        float* const row = qkv.data + (slice.first_row + i) * qkv.cols;
        for (int32_t h = 0; h < shape.q_heads + shape.kv_heads; ++h) {
          Rotate(row + h * shape.head_dim, shape.head_dim, position, ValuesOf(inv_freq));
        }
        StoreKv(row + shape.q_heads * shape.head_dim, shape, position,
                KvSlice(kv, layer, slice.blocks[position / kBlockTokens]));
      }
    }
  }

  // `kv` = [k heads | v heads] of one row.
  static void StoreKv(const float* kv, const AttentionShape& shape, int32_t position,
                      const KvSlice& slice) {
    const int32_t slot = position % static_cast<int32_t>(kBlockTokens);
    const float* const values = kv + shape.kv_heads * shape.head_dim;
    for (int32_t h = 0; h < shape.kv_heads; ++h) {
      for (int32_t d = 0; d < shape.head_dim; ++d) {
        slice.Keys(h)[d * kBlockTokens + slot] = kv[h * shape.head_dim + d];
        slice.Values(h)[slot * shape.head_dim + d] = values[h * shape.head_dim + d];
      }
    }
  }

  void DoAttention(Tensor qkv, const AttentionShape& shape, const AttentionRule& rule,
                   absl::Span<const SequenceSlice> slices, uint32_t layer, BlockMemory* kv,
                   Tensor out) override {
    for (const SequenceSlice& slice : slices) {
      for (int32_t i = 0; i < slice.rows; ++i) {
        const int64_t row = slice.first_row + i;
        for (int32_t h = 0; h < shape.q_heads; ++h) {
          AttendHead(qkv.data + row * qkv.cols + h * shape.head_dim, shape, rule, slice,
                     slice.position + i, h / (shape.q_heads / shape.kv_heads), layer, kv,
                     out.data + row * out.cols + h * shape.head_dim);
        }
      }
    }
  }

  static void AttendHead(const float* q, const AttentionShape& shape, const AttentionRule& rule,
                         const SequenceSlice& sequence, int32_t position, int32_t kv_head,
                         uint32_t layer, BlockMemory* kv, float* out) {
    const int32_t first = rule.window == 0 ? 0 : std::max(0, position + 1 - rule.window);
    std::vector<double> scores(position + 1);
    double max = -std::numeric_limits<double>::infinity();
    for (int32_t t = first; t <= position; ++t) {
      const KvSlice slice(kv, layer, sequence.blocks[t / kBlockTokens]);
      const float* const key = slice.Keys(kv_head) + t % kBlockTokens;
      for (int32_t d = 0; d < shape.head_dim; ++d)
        scores[t] += double{q[d]} * key[d * kBlockTokens];
      scores[t] *= double{rule.scale};
      max = std::max(max, scores[t]);
    }
    double sum = 0;
    for (int32_t t = first; t <= position; ++t) sum += scores[t] = std::exp(scores[t] - max);
    std::vector<double> mix(shape.head_dim);
    for (int32_t t = first; t <= position; ++t) {
      const KvSlice slice(kv, layer, sequence.blocks[t / kBlockTokens]);
      const float* const value = slice.Values(kv_head) + t % kBlockTokens * shape.head_dim;
      for (int32_t d = 0; d < shape.head_dim; ++d) mix[d] += scores[t] * value[d];
    }
    for (int32_t d = 0; d < shape.head_dim; ++d) out[d] = static_cast<float>(mix[d] / sum);
  }

  void DoSwiGlu(Tensor gate_up, Tensor out) override {
    for (int64_t r = 0; r < out.rows; ++r) {
      const float* const gate = gate_up.data + r * gate_up.cols;
      for (int64_t i = 0; i < out.cols; ++i) {
        const double silu = gate[i] / (1 + std::exp(-double{gate[i]}));
        out.data[r * out.cols + i] = static_cast<float>(silu * gate[out.cols + i]);
      }
    }
  }

  void DoGatherRows(Tensor x, absl::Span<const int32_t> rows, Tensor out) override {
    for (size_t i = 0; i < rows.size(); ++i) {
      std::memcpy(out.data + i * x.cols, x.data + rows[i] * x.cols, x.cols * sizeof(float));
    }
  }

  Arena arena_;
};

}  // namespace

std::unique_ptr<Backend> MakeReferenceBackend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace tandem
