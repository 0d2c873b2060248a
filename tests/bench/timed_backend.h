#pragma once
#include <ctime>
#include <map>
#include <memory>
#include <string>

#include "worker/backend/backend.h"

namespace tandem {

// Passes every operation on to another backend and adds up how long each kind takes.
class TimedBackend final : public Backend {
 public:
  TimedBackend(std::unique_ptr<Backend> inner, clockid_t clock)
      : inner_(std::move(inner)), clock_(clock) {}

  std::map<std::string, double>* seconds() { return &seconds_; }

  std::string numerics_class() const override { return inner_->numerics_class(); }
  absl::StatusOr<std::unique_ptr<Matrix>> PackMatrix(absl::Span<const WeightView> parts) override {
    return inner_->PackMatrix(parts);
  }
  absl::StatusOr<std::unique_ptr<Vector>> PackVector(absl::Span<const WeightView> parts) override {
    return inner_->PackVector(parts);
  }
  absl::StatusOr<std::unique_ptr<Vector>> MakeVector(absl::Span<const float> values) override {
    return inner_->MakeVector(values);
  }
  KvLayout KvGeometry(uint32_t layers, uint32_t kv_heads, uint32_t head_dim) const override {
    return inner_->KvGeometry(layers, kv_heads, head_dim);
  }
  absl::StatusOr<float*> AllocateActivations(int64_t elements) override {
    return inner_->AllocateActivations(elements);
  }
  absl::StatusOr<std::unique_ptr<BlockMemory>> AllocateKv(const KvLayout& layout,
                                                          uint32_t blocks) override {
    return inner_->AllocateKv(layout, blocks);
  }
  absl::Status Synchronize() override { return inner_->Synchronize(); }

 private:
  // The decoder reports what fails at the next Synchronize; shapes were checked once already.
  template <typename F>
  void Time(const std::string& name, F f) {
    timespec begin, end;
    clock_gettime(clock_, &begin);
    f().IgnoreError();
    clock_gettime(clock_, &end);
    seconds_[name] += static_cast<double>(end.tv_sec - begin.tv_sec) +
                      1e-9 * static_cast<double>(end.tv_nsec - begin.tv_nsec);
  }

  void DoEmbed(const Matrix& table, absl::Span<const int32_t> ids, Tensor out) override {
    Time("embed", [&] { return inner_->Embed(table, ids, out); });
  }
  void DoRmsNorm(Tensor x, const Vector& weight, float eps, Tensor out) override {
    Time("norm", [&] { return inner_->RmsNorm(x, weight, eps, out); });
  }
  void DoLinear(const Matrix& w, Tensor x, const Vector* bias, bool accumulate,
                Tensor out) override {
    Time("linear " + std::to_string(w.cols()) + " to " + std::to_string(w.rows()),
         [&] { return inner_->Linear(w, x, bias, accumulate, out); });
  }
  void DoNormHeads(Tensor qkv, const AttentionShape& shape, const Vector& q_weight,
                   const Vector& k_weight, float eps) override {
    Time("norm heads", [&] { return inner_->NormHeads(qkv, shape, q_weight, k_weight, eps); });
  }
  void DoRopeAndStoreKv(Tensor qkv, const AttentionShape& shape, const Vector& inv_freq,
                        absl::Span<const SequenceSlice> slices, uint32_t layer,
                        BlockMemory* kv) override {
    Time("rope, store",
         [&] { return inner_->RopeAndStoreKv(qkv, shape, inv_freq, slices, layer, kv); });
  }
  void DoAttention(Tensor qkv, const AttentionShape& shape, const AttentionRule& rule,
                   absl::Span<const SequenceSlice> slices, uint32_t layer, BlockMemory* kv,
                   Tensor out) override {
    Time("attention", [&] { return inner_->Attention(qkv, shape, rule, slices, layer, kv, out); });
  }
  void DoSwiGlu(Tensor gate_up, Tensor out) override {
    Time("swiglu", [&] { return inner_->SwiGlu(gate_up, out); });
  }
  void DoGatherRows(Tensor x, absl::Span<const int32_t> rows, Tensor out) override {
    Time("gather", [&] { return inner_->GatherRows(x, rows, out); });
  }

  const std::unique_ptr<Backend> inner_;
  const clockid_t clock_;
  std::map<std::string, double> seconds_;
};

}  // namespace tandem
