#pragma once
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kvstore/types.h"
#include "worker/model/weight_view.h"

// The operations that a model's forward pass needs, on one device.
namespace tandem {

// A row-major float32 activation; owns nothing.
struct Tensor {
  float* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;

  Tensor Rows(int64_t first, int64_t count) const { return {data + first * cols, count, cols}; }
};

// A weight matrix in the backend's own layout, made by PackMatrix.
//   shape   [rows = outputs, cols = inputs]
//   life    independent of the file that it came from
class Matrix {
 public:
  virtual ~Matrix() = default;
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }

 protected:
  Matrix(int64_t rows, int64_t cols) : rows_(rows), cols_(cols) {}

 private:
  const int64_t rows_, cols_;
};

// A float32 vector on the device: a norm's weight, a bias, the rope frequencies.
class Vector {
 public:
  virtual ~Vector() = default;
  int64_t size() const { return size_; }

 protected:
  explicit Vector(int64_t size) : size_(size) {}

 private:
  const int64_t size_;
};

// The part of a batch that belongs to one sequence: rows [first_row, first_row + rows) are its
// tokens at positions [position, position + rows). `blocks` cover every position up to the last.
struct SequenceSlice {
  int32_t first_row = 0;
  int32_t rows = 0;
  int32_t position = 0;
  absl::Span<const BlockId> blocks;
};

struct AttentionShape {
  int32_t q_heads = 0, kv_heads = 0, head_dim = 0;
  int32_t qkv_cols() const { return (q_heads + 2 * kv_heads) * head_dim; }
};

// What a row attends to in one layer, and how sharply.
struct AttentionRule {
  float scale = 0;     // of q . k, above 0: 1 / sqrt(head_dim) in most models
  int32_t window = 0;  // tokens that a row sees, the last of them its own; 0: all before it too
};

// tests/worker/backend holds every implementation to the reference one, with a stated error bound
// per operation and storage type.
//   order   operations happen in the order called; outputs are readable after Synchronize()
//   bits    an output row depends only on its own input row (and its own sequence's KV), never on
//           how many other rows there are, on chunking or on the thread count: every reduction has
//           one order
//   errors  InvalidArgument for a bad shape, before anything is queued; faults at Synchronize()
//   life    matrices, vectors and KV memory go before the backend that made them, and are only used
//           with it
//   threads one at a time (the engine's)
class Backend {
 public:
  virtual ~Backend() = default;

  // Names all that may change bits: backend, kernel version, weight scheme.
  virtual std::string numerics_class() const = 0;

  // Stacks `parts` along their rows (q, k and v become one matrix); all have the same cols. Packed
  // weights stay packed. Honours WeightView::row_order.
  virtual absl::StatusOr<std::unique_ptr<Matrix>> PackMatrix(
      absl::Span<const WeightView> parts) = 0;
  // Concatenates one-row weights, or values, as float32.
  virtual absl::StatusOr<std::unique_ptr<Vector>> PackVector(
      absl::Span<const WeightView> parts) = 0;
  virtual absl::StatusOr<std::unique_ptr<Vector>> MakeVector(absl::Span<const float> values) = 0;

  // The geometry of this backend's KV cache for such a model: dtype, block tokens, version and
  // numerics class are its own; digests and kv_abi are left empty.
  virtual KvLayout KvGeometry(uint32_t layers, uint32_t kv_heads, uint32_t head_dim) const = 0;

  // Activations and the KV cache, zeroed. RESOURCE_EXHAUSTED when there is no memory. Activations
  // live as long as the backend; AllocateKv wants a layout whose geometry is KvGeometry's.
  virtual absl::StatusOr<float*> AllocateActivations(int64_t elements) = 0;
  virtual absl::StatusOr<std::unique_ptr<BlockMemory>> AllocateKv(const KvLayout& layout,
                                                                  uint32_t blocks) = 0;

  // out[i] = table[ids[i]]
  absl::Status Embed(const Matrix& table, absl::Span<const int32_t> ids, Tensor out);
  // out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight
  absl::Status RmsNorm(Tensor x, const Vector& weight, float eps, Tensor out);
  // out[r] = x[r] * w^T (+ bias) (+ out[r] where `accumulate`); bias may be null
  absl::Status Linear(const Matrix& w, Tensor x, const Vector* bias, bool accumulate, Tensor out);
  // Norms each q and each k head of `qkv` = [q heads | k heads | v heads] on its own, in place, as
  // RmsNorm does a row; the weights have head_dim elements.
  absl::Status NormHeads(Tensor qkv, const AttentionShape& shape, const Vector& q_weight,
                         const Vector& k_weight, float eps);
  // Rotates q and k of each row of `qkv` = [q heads | k heads | v heads] by its position (pairs
  // i, i + head_dim / 2; angle = position * inv_freq[i], rounded to float32 as the reference
  // implementations do), q in place, and stores k and v in the cache's slices of `layer`.
  absl::Status RopeAndStoreKv(Tensor qkv, const AttentionShape& shape, const Vector& inv_freq,
                              absl::Span<const SequenceSlice> slices, uint32_t layer,
                              BlockMemory* kv);
  // out[r] = softmax(scale * q[r] . k) v over the row's sequence up to its own position, from the
  // window's first token on; q is the front of `qkv`, out is [rows, q_heads * head_dim]. Blocks
  // that no row sees are not read; the others hold finite values before the window too.
  absl::Status Attention(Tensor qkv, const AttentionShape& shape, const AttentionRule& rule,
                         absl::Span<const SequenceSlice> slices, uint32_t layer, BlockMemory* kv,
                         Tensor out);
  // out[r, i] = silu(gate_up[r, i]) * gate_up[r, cols + i]; gate_up has 2 * out.cols columns
  absl::Status SwiGlu(Tensor gate_up, Tensor out);
  // out[i] = x[rows[i]]
  absl::Status GatherRows(Tensor x, absl::Span<const int32_t> rows, Tensor out);

  virtual absl::Status Synchronize() = 0;

 private:  // arguments are valid from here on
  virtual void DoEmbed(const Matrix& table, absl::Span<const int32_t> ids, Tensor out) = 0;
  virtual void DoRmsNorm(Tensor x, const Vector& weight, float eps, Tensor out) = 0;
  virtual void DoLinear(const Matrix& w, Tensor x, const Vector* bias, bool accumulate,
                        Tensor out) = 0;
  virtual void DoNormHeads(Tensor qkv, const AttentionShape& shape, const Vector& q_weight,
                           const Vector& k_weight, float eps) = 0;
  virtual void DoRopeAndStoreKv(Tensor qkv, const AttentionShape& shape, const Vector& inv_freq,
                                absl::Span<const SequenceSlice> slices, uint32_t layer,
                                BlockMemory* kv) = 0;
  virtual void DoAttention(Tensor qkv, const AttentionShape& shape, const AttentionRule& rule,
                           absl::Span<const SequenceSlice> slices, uint32_t layer, BlockMemory* kv,
                           Tensor out) = 0;
  virtual void DoSwiGlu(Tensor gate_up, Tensor out) = 0;
  virtual void DoGatherRows(Tensor x, absl::Span<const int32_t> rows, Tensor out) = 0;
};

// The plain implementation: one thread, one loop per definition. The oracle of the others.
std::unique_ptr<Backend> MakeReferenceBackend();

enum class InstructionSet { kBest, kScalar, kAvx2, kAvx512, kAvx512Vnni };

// What a linear layer of Q8_0, Q4_0 or Q4_1 weights does to its inputs. Either way a row's result
// depends on nothing but the row.
enum class Activations : uint8_t {
  kFloat32,  // keeps 22 bits below the largest of 32 inputs, about as float32 in a sum with it
  kInt8      // rounds them to 8 bits, with a scale for each 32
};

struct CpuOptions {
  int threads = 0;                                      // 0: one a core that this process may use
  InstructionSet instructions = InstructionSet::kBest;  // others for tests; must be there
  Activations activations = Activations::kFloat32;
};
// InvalidArgument when this CPU lacks the instruction set.
absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuOptions& options);

}  // namespace tandem
