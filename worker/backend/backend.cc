#include "worker/backend/backend.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status.h"

// The checks that all backends share: an operation with wrong shapes is our caller's mistake, and
// an error that names it beats memory that is overwritten.
namespace tandem {
namespace {

std::string ShapeOf(int64_t rows, int64_t cols) { return absl::StrCat("[", rows, ", ", cols, "]"); }
std::string ShapeOf(const Tensor& x) { return ShapeOf(x.rows, x.cols); }

template <typename... Parts>
absl::Status Refuse(absl::string_view op, const Parts&... what) {
  return absl::InvalidArgumentError(absl::StrCat(op, ": ", what...));
}

absl::Status WantShape(absl::string_view op, absl::string_view name, const Tensor& x, int64_t rows,
                       int64_t cols) {
  if (x.rows == rows && x.cols == cols && x.data != nullptr) return absl::OkStatus();
  return Refuse(op, name, " must be ", ShapeOf(rows, cols), ", is ", ShapeOf(x),
                x.data == nullptr ? " without data" : "");
}

absl::Status WantSize(absl::string_view op, absl::string_view name, const Vector& x, int64_t size) {
  if (x.size() == size) return absl::OkStatus();
  return Refuse(op, name, " must have ", size, " elements, has ", x.size());
}

absl::Status WantIndices(absl::string_view op, absl::string_view name,
                         absl::Span<const int32_t> indices, int64_t limit) {
  for (size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] >= 0 && indices[i] < limit) continue;
    return Refuse(op, name, "[", i, "] is ", indices[i], ", outside [0, ", limit, ")");
  }
  return absl::OkStatus();
}

absl::Status CheckHeads(absl::string_view op, const AttentionShape& shape) {
  const bool possible = shape.q_heads > 0 && shape.kv_heads > 0 && shape.head_dim > 0 &&
                        shape.q_heads % shape.kv_heads == 0 && shape.head_dim % 2 == 0;
  if (possible) return absl::OkStatus();
  return Refuse(op, "impossible heads: ", shape.q_heads, " q, ", shape.kv_heads, " kv of ",
                shape.head_dim);
}

absl::Status CheckRule(absl::string_view op, const AttentionRule& rule) {
  if (std::isfinite(rule.scale) && rule.scale > 0 && rule.window >= 0) return absl::OkStatus();
  return Refuse(op, "impossible rule: scale ", rule.scale, ", window ", rule.window);
}

absl::Status CheckKv(absl::string_view op, const AttentionShape& shape, uint32_t layer,
                     BlockMemory* kv) {
  if (kv == nullptr) return Refuse(op, "no KV memory");
  const KvLayout& layout = kv->layout();
  if (layer >= layout.layers)
    return Refuse(op, "layer ", layer, " of a cache with ", layout.layers);
  if (layout.kv_heads == static_cast<uint32_t>(shape.kv_heads) &&
      layout.head_dim == static_cast<uint32_t>(shape.head_dim)) {
    return absl::OkStatus();
  }
  return Refuse(op, "the cache holds ", layout.kv_heads, " heads of ", layout.head_dim,
                ", the operation wants ", shape.kv_heads, " of ", shape.head_dim);
}

absl::Status CheckSlices(absl::string_view op, absl::Span<const SequenceSlice> slices, int64_t rows,
                         BlockMemory* kv) {
  int64_t next_row = 0;
  for (size_t i = 0; i < slices.size(); ++i) {
    const SequenceSlice& slice = slices[i];
    if (slice.first_row != next_row || slice.rows <= 0 || slice.position < 0) {
      return Refuse(op, "slice ", i, " has rows [", slice.first_row, ", +", slice.rows,
                    ") at position ", slice.position, "; the next row is ", next_row);
    }
    next_row += slice.rows;
    const int64_t tokens = int64_t{slice.position} + slice.rows;
    const int64_t covered = static_cast<int64_t>(slice.blocks.size()) * kv->layout().block_tokens;
    if (tokens > covered) {
      return Refuse(op, "slice ", i, " ends at position ", tokens, ", its blocks hold ", covered);
    }
    for (const BlockId block : slice.blocks) {
      const uint32_t index = static_cast<uint32_t>(block);
      if (index < kv->blocks()) continue;
      return Refuse(op, "slice ", i, " names block ", index, " of ", kv->blocks());
    }
  }
  if (next_row == rows) return absl::OkStatus();
  return Refuse(op, "the slices cover ", next_row, " of ", rows, " rows");
}

}  // namespace

absl::Status Backend::Embed(const Matrix& table, absl::Span<const int32_t> ids, Tensor out) {
  const int64_t rows = static_cast<int64_t>(ids.size());
  RETURN_IF_ERROR(WantShape("Embed", "out", out, rows, table.cols()));
  RETURN_IF_ERROR(WantIndices("Embed", "ids", ids, table.rows()));
  DoEmbed(table, ids, out);
  return absl::OkStatus();
}

absl::Status Backend::RmsNorm(Tensor x, const Vector& weight, float eps, Tensor out) {
  RETURN_IF_ERROR(WantShape("RmsNorm", "out", out, x.rows, x.cols));
  RETURN_IF_ERROR(WantSize("RmsNorm", "weight", weight, x.cols));
  DoRmsNorm(x, weight, eps, out);
  return absl::OkStatus();
}

absl::Status Backend::Linear(const Matrix& w, Tensor x, const Vector* bias, bool accumulate,
                             Tensor out) {
  RETURN_IF_ERROR(WantShape("Linear", "x", x, x.rows, w.cols()));
  RETURN_IF_ERROR(WantShape("Linear", "out", out, x.rows, w.rows()));
  if (bias != nullptr) {
    RETURN_IF_ERROR(WantSize("Linear", "bias", *bias, w.rows()));
  }
  if (x.data == out.data) return Refuse("Linear", "x and out are the same memory");
  DoLinear(w, x, bias, accumulate, out);
  return absl::OkStatus();
}

absl::Status Backend::NormHeads(Tensor qkv, const AttentionShape& shape, const Vector& q_weight,
                                const Vector& k_weight, float eps) {
  constexpr absl::string_view kOp = "NormHeads";
  RETURN_IF_ERROR(CheckHeads(kOp, shape));
  RETURN_IF_ERROR(WantShape(kOp, "qkv", qkv, qkv.rows, shape.qkv_cols()));
  RETURN_IF_ERROR(WantSize(kOp, "q_weight", q_weight, shape.head_dim));
  RETURN_IF_ERROR(WantSize(kOp, "k_weight", k_weight, shape.head_dim));
  DoNormHeads(qkv, shape, q_weight, k_weight, eps);
  return absl::OkStatus();
}

absl::Status Backend::RopeAndStoreKv(Tensor qkv, const AttentionShape& shape,
                                     const Vector& inv_freq, absl::Span<const SequenceSlice> slices,
                                     uint32_t layer, BlockMemory* kv) {
  constexpr absl::string_view kOp = "RopeAndStoreKv";
  RETURN_IF_ERROR(CheckHeads(kOp, shape));
  RETURN_IF_ERROR(WantShape(kOp, "qkv", qkv, qkv.rows, shape.qkv_cols()));
  RETURN_IF_ERROR(WantSize(kOp, "inv_freq", inv_freq, shape.head_dim / 2));
  RETURN_IF_ERROR(CheckKv(kOp, shape, layer, kv));
  RETURN_IF_ERROR(CheckSlices(kOp, slices, qkv.rows, kv));
  DoRopeAndStoreKv(qkv, shape, inv_freq, slices, layer, kv);
  return absl::OkStatus();
}

absl::Status Backend::Attention(Tensor qkv, const AttentionShape& shape, const AttentionRule& rule,
                                absl::Span<const SequenceSlice> slices, uint32_t layer,
                                BlockMemory* kv, Tensor out) {
  constexpr absl::string_view kOp = "Attention";
  RETURN_IF_ERROR(CheckHeads(kOp, shape));
  RETURN_IF_ERROR(CheckRule(kOp, rule));
  RETURN_IF_ERROR(WantShape(kOp, "qkv", qkv, qkv.rows, shape.qkv_cols()));
  RETURN_IF_ERROR(WantShape(kOp, "out", out, qkv.rows, int64_t{shape.q_heads} * shape.head_dim));
  RETURN_IF_ERROR(CheckKv(kOp, shape, layer, kv));
  RETURN_IF_ERROR(CheckSlices(kOp, slices, qkv.rows, kv));
  DoAttention(qkv, shape, rule, slices, layer, kv, out);
  return absl::OkStatus();
}

absl::Status Backend::SwiGlu(Tensor gate_up, Tensor out) {
  RETURN_IF_ERROR(WantShape("SwiGlu", "gate_up", gate_up, out.rows, 2 * out.cols));
  DoSwiGlu(gate_up, out);
  return absl::OkStatus();
}

absl::Status Backend::GatherRows(Tensor x, absl::Span<const int32_t> rows, Tensor out) {
  const int64_t count = static_cast<int64_t>(rows.size());
  RETURN_IF_ERROR(WantShape("GatherRows", "out", out, count, x.cols));
  RETURN_IF_ERROR(WantIndices("GatherRows", "rows", rows, x.rows));
  DoGatherRows(x, rows, out);
  return absl::OkStatus();
}

}  // namespace tandem
