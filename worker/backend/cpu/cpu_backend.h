#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "worker/backend/backend.h"
#include "worker/backend/cpu/huge_pages.h"
#include "worker/backend/cpu/kernels.h"
#include "worker/backend/cpu/packed_matrix.h"
#include "worker/backend/cpu/thread_pool.h"

namespace tandem {

// The fast CPU path: packed weights, kernels for one instruction set, and a pool of threads that
// split outputs, heads and rows, never a sum. Operations run when they are called.
class CpuBackend final : public Backend {
 public:
  CpuBackend(const CpuKernels& kernels, const CpuOptions& options);  // threads above 0

  std::string numerics_class() const override;
  absl::StatusOr<std::unique_ptr<Matrix>> PackMatrix(absl::Span<const WeightView> parts) override;
  absl::StatusOr<std::unique_ptr<Vector>> PackVector(absl::Span<const WeightView> parts) override;
  absl::StatusOr<std::unique_ptr<Vector>> MakeVector(absl::Span<const float> values) override;
  KvLayout KvGeometry(uint32_t layers, uint32_t kv_heads, uint32_t head_dim) const override;
  absl::StatusOr<float*> AllocateActivations(int64_t elements) override;
  absl::StatusOr<std::unique_ptr<BlockMemory>> AllocateKv(const KvLayout& layout,
                                                          uint32_t blocks) override;
  absl::Status Synchronize() override;

 private:
  // Memory that an operation needs while it runs; grows, and is kept.
  class Scratch {
   public:
    // Null when there is no memory.
    float* Get(size_t floats);

   private:
    std::unique_ptr<HugePages> pages_;
  };

  void DoEmbed(const Matrix& table, absl::Span<const int32_t> ids, Tensor out) override;
  void DoRmsNorm(Tensor x, const Vector& weight, float eps, Tensor out) override;
  void DoLinear(const Matrix& w, Tensor x, const Vector* bias, bool accumulate,
                Tensor out) override;
  void DoNormHeads(Tensor qkv, const AttentionShape& shape, const Vector& q_weight,
                   const Vector& k_weight, float eps) override;
  void DoRopeAndStoreKv(Tensor qkv, const AttentionShape& shape, const Vector& inv_freq,
                        absl::Span<const SequenceSlice> slices, uint32_t layer,
                        BlockMemory* kv) override;
  void DoAttention(Tensor qkv, const AttentionShape& shape, const AttentionRule& rule,
                   absl::Span<const SequenceSlice> slices, uint32_t layer, BlockMemory* kv,
                   Tensor out) override;
  void DoSwiGlu(Tensor gate_up, Tensor out) override;
  void DoGatherRows(Tensor x, absl::Span<const int32_t> rows, Tensor out) override;

  struct alignas(64) Cursor {
    std::atomic<int64_t> next;
  };

  // Calls work(i, thread) for i in [0, count), on the pool where `cost` (about nanoseconds in all)
  // is worth waking it. Each thread goes through its share in order, for the sake of its stream of
  // memory, and then takes what others have left.
  template <typename F>
  void ForEach(int64_t count, double cost, F work);
  // Inputs as the kernels want them, or null (a fault) without memory. PackFixed: for weights
  // whose code for zero is `zero`.
  const float* PackInputs(Tensor x);
  const void* PackFixed(Tensor x, int zero);
  void Fault(absl::string_view what);

  const CpuKernels& kernels_;
  const Activations activations_;
  ThreadPool pool_;
  std::vector<Cursor> cursors_;  // one a thread: what is next in its share
  Arena arena_;
  Scratch inputs_, fixed_inputs_;
  std::vector<Scratch> scratch_;  // one a thread
  absl::Status fault_;            // the first, until Synchronize
};

}  // namespace tandem
