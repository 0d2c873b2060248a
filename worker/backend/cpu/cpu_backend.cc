#include "worker/backend/cpu/cpu_backend.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/backend/cpu/block_memory.h"
#include "worker/backend/cpu/rope_table.h"
#include "worker/backend/cpu/weights.h"

namespace tandem {
namespace {

constexpr double kWorthThreads = 4000;  // about nanoseconds: below, one thread is done sooner

class CpuVector final : public Vector {
 public:
  explicit CpuVector(std::vector<float> values)
      : Vector(static_cast<int64_t>(values.size())), values_(std::move(values)), rope_(values_) {}
  const float* data() const { return values_.data(); }
  // The table of these values as rotary frequencies; empty until it is used.
  RopeTable& rope() const { return rope_; }

 private:
  const std::vector<float> values_;
  mutable RopeTable rope_;  // the engine's thread only
};

int DigitsOf(Activations activations) { return activations == Activations::kInt8 ? 1 : 3; }

const CpuVector& Cast(const Vector& vector) { return static_cast<const CpuVector&>(vector); }

// Rotates one head in place: pairs i, i + half.
void Rotate(float* head, int32_t half, const float* sines, const float* cosines) {
  for (int32_t i = 0; i < half; ++i) {
    const float a = head[i], b = head[i + half];
    head[i] = a * cosines[i] - b * sines[i];
    head[i + half] = b * cosines[i] + a * sines[i];
  }
}

// Stores k and v of one token; `kv` = [k heads | v heads].
void StoreToken(const float* kv, const AttentionShape& shape, uint32_t slot, const KvSlice& slice) {
  const float* const values = kv + shape.kv_heads * shape.head_dim;
  for (int32_t h = 0; h < shape.kv_heads; ++h) {
    float* const keys = slice.Keys(h) + slot;
    for (int32_t d = 0; d < shape.head_dim; ++d) {
      keys[d * kBlockTokens] = kv[h * shape.head_dim + d];
    }
    std::memcpy(slice.Values(h) + slot * shape.head_dim, values + h * shape.head_dim,
                shape.head_dim * sizeof(float));
  }
}

// One call of the attention kernel: some rows of a slice with some heads of one kv head, or all
// heads of some.
struct AttentionPiece {
  const SequenceSlice* slice = nullptr;
  size_t first_block = 0;       // of the slice, in AttentionPlan::blocks
  int32_t row = 0, rows = 0;    // inside the slice
  int32_t head = 0, heads = 0;  // the first, and how many of each kv head
  int32_t kv_heads = 1;
};

struct AttentionPlan {
  std::vector<const float*> blocks;  // the layer's slices of KV, sequence by sequence
  std::vector<AttentionPiece> pieces;
  size_t blocks_max = 0;  // of one sequence
  double cost = 0;        // about nanoseconds
};

// Heads that share keys go together, as far as a tile holds them; only when there would be too few
// pieces for all threads, each head goes alone. Single rows, which are bound by memory, read as
// many kv heads at once as leave a piece for each thread.
AttentionPlan PlanAttention(const AttentionShape& shape, const AttentionRule& rule,
                            absl::Span<const SequenceSlice> slices, uint32_t layer, BlockMemory* kv,
                            int32_t row_tile, int threads) {
  AttentionPlan plan;
  const int32_t group = shape.q_heads / shape.kv_heads;
  const int32_t sequences = static_cast<int32_t>(slices.size());
  const bool few = int64_t{sequences} * shape.kv_heads < threads;
  const int32_t shares = (threads + sequences - 1) / sequences;
  const int32_t kv_heads_max = std::min((shape.kv_heads + shares - 1) / shares, kAttentionKvHeads);
  for (const SequenceSlice& slice : slices) {
    const size_t first_block = plan.blocks.size();
    for (const BlockId block : slice.blocks) plan.blocks.push_back(KvSlice(kv, layer, block).base);
    plan.blocks_max = std::max(plan.blocks_max, slice.blocks.size());
    double seen = slice.position + 0.5 * slice.rows;
    if (rule.window > 0) seen = std::min<double>(seen, rule.window);
    plan.cost += 0.1 * slice.rows * seen * shape.q_heads * shape.head_dim;
    const int32_t heads_max = few && slice.rows == 1 ? 1 : std::min(group, row_tile);
    const int32_t rows_max = std::max(1, row_tile / heads_max);
    const int32_t kv_heads = slice.rows == 1 && heads_max == group ? kv_heads_max : 1;
    for (int32_t row = 0; row < slice.rows; row += rows_max) {
      const int32_t rows = std::min(rows_max, slice.rows - row);
      for (int32_t head = 0; head < shape.q_heads;) {
        AttentionPiece piece{&slice, first_block, row, rows, head};
        piece.heads = std::min(heads_max, group - head % group);
        piece.kv_heads = std::min(kv_heads, (shape.q_heads - head + group - 1) / group);
        plan.pieces.push_back(piece);
        head += piece.heads * piece.kv_heads;
      }
    }
  }
  return plan;
}

}  // namespace

CpuBackend::CpuBackend(const CpuKernels& kernels, const CpuOptions& options)
    : kernels_(kernels),
      activations_(options.activations),
      pool_(options.threads),
      cursors_(options.threads),
      scratch_(options.threads) {}

// All instruction sets and thread counts give the same bits.
std::string CpuBackend::numerics_class() const {
  return activations_ == Activations::kInt8 ? "cpu-int8-2" : "cpu-f32-2";
}

float* CpuBackend::Scratch::Get(size_t floats) {
  const size_t bytes = floats * sizeof(float);
  if (pages_ == nullptr || pages_->size() < bytes) {
    absl::StatusOr<HugePages> pages = HugePages::Map(bytes + bytes / 2);
    if (!pages.ok()) return nullptr;
    pages_ = std::make_unique<HugePages>(*std::move(pages));
  }
  return reinterpret_cast<float*>(pages_->data());
}

void CpuBackend::Fault(absl::string_view what) {
  if (fault_.ok()) fault_ = absl::ResourceExhaustedError(absl::StrCat(what, ": no memory"));
}

absl::Status CpuBackend::Synchronize() { return std::exchange(fault_, absl::OkStatus()); }

template <typename F>
void CpuBackend::ForEach(int64_t count, double cost, F work) {
  if (cost < kWorthThreads || count < 2) {
    for (int64_t i = 0; i < count; ++i) work(i, 0);
    return;
  }
  const int threads = pool_.threads();
  for (int t = 0; t < threads; ++t) cursors_[t].next = count * t / threads;
  pool_.Run([&](int thread) {
    for (int t = 0; t < threads; ++t) {
      const int owner = (thread + t) % threads;
      const int64_t end = count * (owner + 1) / threads;
      std::atomic<int64_t>& next = cursors_[owner].next;
      for (int64_t i = next++; i < end; i = next++) work(i, thread);
    }
  });
}

absl::StatusOr<std::unique_ptr<Matrix>> CpuBackend::PackMatrix(absl::Span<const WeightView> parts) {
  RETURN_IF_ERROR(CheckMatrixParts(parts));
  const double cost = 1.0 * static_cast<double>(TotalRows(parts)) * parts[0].cols;
  return PackedMatrix::Pack(parts, &arena_,
                            [&](int64_t count, absl::FunctionRef<void(int64_t)> work) {
                              ForEach(count, cost, [&](int64_t i, int) { work(i); });
                            });
}

absl::StatusOr<std::unique_ptr<Vector>> CpuBackend::PackVector(absl::Span<const WeightView> parts) {
  ASSIGN_OR_RETURN(std::vector<float> values, VectorValues(parts));
  return std::make_unique<CpuVector>(std::move(values));
}

absl::StatusOr<std::unique_ptr<Vector>> CpuBackend::MakeVector(absl::Span<const float> values) {
  return std::make_unique<CpuVector>(std::vector<float>(values.begin(), values.end()));
}

KvLayout CpuBackend::KvGeometry(uint32_t layers, uint32_t kv_heads, uint32_t head_dim) const {
  KvLayout layout = CpuKvGeometry(layers, kv_heads, head_dim);
  layout.numerics_class = numerics_class();
  return layout;
}

absl::StatusOr<float*> CpuBackend::AllocateActivations(int64_t elements) {
  ASSIGN_OR_RETURN(uint8_t* const data, arena_.Allocate(elements * sizeof(float)));
  return reinterpret_cast<float*>(data);
}

absl::StatusOr<std::unique_ptr<BlockMemory>> CpuBackend::AllocateKv(const KvLayout& layout,
                                                                    uint32_t blocks) {
  return CpuBlockMemory::Create(layout, blocks);
}

void CpuBackend::DoEmbed(const Matrix& table, absl::Span<const int32_t> ids, Tensor out) {
  const auto& matrix = static_cast<const PackedMatrix&>(table);
  ForEach(out.rows, 2.0 * out.rows * out.cols,
          [&](int64_t i, int) { matrix.UnpackRow(ids[i], out.data + i * out.cols); });
}

void CpuBackend::DoRmsNorm(Tensor x, const Vector& weight, float eps, Tensor out) {
  ForEach(x.rows, 0.2 * x.rows * x.cols, [&](int64_t i, int) {
    kernels_.rms_norm(x.data + i * x.cols, x.cols, Cast(weight).data(), eps,
                      out.data + i * out.cols);
  });
}

const float* CpuBackend::PackInputs(Tensor x) {
  if (x.rows == 1) return x.data;
  const int64_t tile = kernels_.row_tile;
  const int64_t tiles = (x.rows + tile - 1) / tile;
  float* const packed = inputs_.Get(tiles * tile * x.cols);
  if (packed == nullptr) return nullptr;
  ForEach(tiles, 0.5 * x.rows * x.cols, [&](int64_t i, int) {
    const int rows = static_cast<int>(std::min(tile, x.rows - i * tile));
    kernels_.pack_rows(x.data + i * tile * x.cols, x.cols, rows, x.cols,
                       packed + i * tile * x.cols);
  });
  return packed;
}

const void* CpuBackend::PackFixed(Tensor x, int zero) {
  const int digits = DigitsOf(activations_);
  const int64_t tile = kernels_.fixed_tile(digits);
  const int64_t tiles = (x.rows + tile - 1) / tile;
  const int64_t row_bytes = FixedRowBytes(digits, x.cols);
  float* const memory = fixed_inputs_.Get(tiles * tile * row_bytes / sizeof(float));
  if (memory == nullptr) return nullptr;
  uint8_t* const packed = reinterpret_cast<uint8_t*>(memory);
  ForEach(tiles, 0.5 * x.rows * x.cols, [&](int64_t i, int) {
    const int rows = static_cast<int>(std::min(tile, x.rows - i * tile));
    kernels_.pack_fixed(x.data + i * tile * x.cols, x.cols, rows, x.cols, digits, zero,
                        packed + i * tile * row_bytes);
  });
  return packed;
}

void CpuBackend::DoLinear(const Matrix& w, Tensor x, const Vector* bias, bool accumulate,
                          Tensor out) {
  if (x.rows == 0) return;
  for (Scratch& scratch : scratch_) {
    if (scratch.Get(kLinearScratchFloats) == nullptr) return Fault("Linear");
  }
  const float* tiles = nullptr;
  const void* fixed_tiles = nullptr;
  int zero = -1;  // of fixed_tiles
  for (const PackedMatrix::Segment& segment : static_cast<const PackedMatrix&>(w).segments()) {
    const bool fixed = IsFixed(segment.dtype);
    if (fixed && zero != ZeroOf(segment.dtype)) {
      zero = ZeroOf(segment.dtype);
      fixed_tiles = PackFixed(x, zero);
    }
    if (!fixed && tiles == nullptr) tiles = PackInputs(x);
    if ((fixed ? fixed_tiles : tiles) == nullptr) return Fault("Linear");
    const LinearArgs args{
        .dtype = segment.dtype,
        .panels = segment.data,
        .panel_bytes = segment.panel_bytes,
        .panel_count = segment.panels,
        .cols = x.cols,
        .outputs = segment.rows,
        .tiles = tiles,
        .fixed_tiles = fixed_tiles,
        .digits = DigitsOf(activations_),
        .rows = x.rows,
        .bias = bias == nullptr ? nullptr : Cast(*bias).data() + segment.first_row,
        .accumulate = accumulate,
        .out = out.data + segment.first_row,
        .out_stride = out.cols};
    // Whole groups of panels; several pieces for each thread, so that one that is kept from its
    // core does not hold up the rest.
    const int64_t share = segment.panels / (8 * pool_.threads()) / kGroupPanels * kGroupPanels;
    const int64_t piece = std::max<int64_t>(share, kGroupPanels);
    const int64_t pieces = (segment.panels + piece - 1) / piece;
    ForEach(pieces, 0.05 * segment.rows * x.cols * x.rows, [&](int64_t i, int thread) {
      const int64_t last = std::min(segment.panels, (i + 1) * piece);
      if (fixed) return kernels_.fixed_linear(args, i * piece, last);
      kernels_.linear(args, i * piece, last, scratch_[thread].Get(kLinearScratchFloats));
    });
  }
}

void CpuBackend::DoNormHeads(Tensor qkv, const AttentionShape& shape, const Vector& q_weight,
                             const Vector& k_weight, float eps) {
  const int32_t heads = shape.q_heads + shape.kv_heads;
  ForEach(qkv.rows, 0.2 * qkv.rows * heads * shape.head_dim, [&](int64_t i, int) {
    for (int32_t h = 0; h < heads; ++h) {
      float* const head = qkv.data + i * qkv.cols + h * shape.head_dim;
      const Vector& weight = h < shape.q_heads ? q_weight : k_weight;
      kernels_.rms_norm(head, shape.head_dim, Cast(weight).data(), eps, head);
    }
  });
}

void CpuBackend::DoRopeAndStoreKv(Tensor qkv, const AttentionShape& shape, const Vector& inv_freq,
                                  absl::Span<const SequenceSlice> slices, uint32_t layer,
                                  BlockMemory* kv) {
  RopeTable& rope = Cast(inv_freq).rope();
  for (const SequenceSlice& slice : slices) rope.Extend(int64_t{slice.position} + slice.rows);
  for (const SequenceSlice& slice : slices) {
    ForEach(slice.rows, 1.0 * slice.rows * qkv.cols, [&](int64_t i, int) {
      const int64_t position = slice.position + i;
      float* const row = qkv.data + (slice.first_row + i) * qkv.cols;
      for (int32_t h = 0; h < shape.q_heads + shape.kv_heads; ++h) {
        Rotate(row + h * shape.head_dim, shape.head_dim / 2, rope.Sines(position),
               rope.Cosines(position));
      }
      StoreToken(row + shape.q_heads * shape.head_dim, shape, position % kBlockTokens,
                 KvSlice(kv, layer, slice.blocks[position / kBlockTokens]));
    });
  }
}

void CpuBackend::DoAttention(Tensor qkv, const AttentionShape& shape, const AttentionRule& rule,
                             absl::Span<const SequenceSlice> slices, uint32_t layer,
                             BlockMemory* kv, Tensor out) {
  const AttentionPlan plan =
      PlanAttention(shape, rule, slices, layer, kv, kernels_.row_tile, pool_.threads());
  const size_t scratch_floats =
      AttentionScratchFloats(plan.blocks_max, shape.head_dim, kAttentionKvHeads);
  for (Scratch& scratch : scratch_) {
    if (scratch.Get(scratch_floats) == nullptr) return Fault("Attention");
  }
  const size_t head_floats = size_t{kBlockTokens} * shape.head_dim;
  const int64_t pieces = static_cast<int64_t>(plan.pieces.size());
  ForEach(pieces, plan.cost, [&](int64_t i, int thread) {
    const AttentionPiece& piece = plan.pieces[pieces - 1 - i];  // a slice's longest first
    const int64_t row = piece.slice->first_row + piece.row;
    const size_t kv_head = piece.head / (shape.q_heads / shape.kv_heads);
    kernels_.attention({.q = qkv.data + row * qkv.cols + piece.head * shape.head_dim,
                        .q_stride = qkv.cols,
                        .rows = piece.rows,
                        .heads = piece.heads,
                        .kv_heads = piece.kv_heads,
                        .position = piece.slice->position + piece.row,
                        .blocks = plan.blocks.data() + piece.first_block,
                        .key_offset = kv_head * head_floats,
                        .value_offset = (shape.kv_heads + kv_head) * head_floats,
                        .head_dim = shape.head_dim,
                        .scale = rule.scale,
                        .window = rule.window,
                        .out = out.data + row * out.cols + piece.head * shape.head_dim,
                        .out_stride = out.cols,
                        .scratch = scratch_[thread].Get(scratch_floats)});
  });
}

void CpuBackend::DoSwiGlu(Tensor gate_up, Tensor out) {
  ForEach(out.rows, 1.0 * out.rows * out.cols, [&](int64_t i, int) {
    const float* const gate = gate_up.data + i * gate_up.cols;
    kernels_.swiglu(gate, gate + out.cols, out.cols, out.data + i * out.cols);
  });
}

void CpuBackend::DoGatherRows(Tensor x, absl::Span<const int32_t> rows, Tensor out) {
  for (size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(out.data + i * x.cols, x.data + rows[i] * x.cols, x.cols * sizeof(float));
  }
}

namespace {

// The kernels of a set, or null where this CPU lacks its instructions.
const CpuKernels* KernelsOf(InstructionSet set) {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  switch (set) {
    case InstructionSet::kBest:
      return vnni     ? &Avx512VnniKernels()
             : avx512 ? &Avx512Kernels()
             : avx2   ? &Avx2Kernels()
                      : &ScalarKernels();
    case InstructionSet::kScalar:
      return &ScalarKernels();
    case InstructionSet::kAvx2:
      return avx2 ? &Avx2Kernels() : nullptr;
    case InstructionSet::kAvx512:
      return avx512 ? &Avx512Kernels() : nullptr;
    case InstructionSet::kAvx512Vnni:
      return vnni ? &Avx512VnniKernels() : nullptr;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuOptions& options) {
  constexpr int kThreadsMax = 1024;
  if (options.threads < 0 || options.threads > kThreadsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("CPU backend: ", options.threads, " threads, want 0 to ", kThreadsMax));
  }
  const CpuKernels* const kernels = KernelsOf(options.instructions);
  if (kernels == nullptr) {
    return absl::InvalidArgumentError("CPU backend: this CPU lacks the instruction set asked for");
  }
  CpuOptions resolved = options;
  if (options.threads == 0) resolved.threads = AvailableCores();
  return std::make_unique<CpuBackend>(*kernels, resolved);
}

}  // namespace tandem
