#pragma once
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "worker/backend/backend.h"
#include "worker/model/dequant.h"

// What the backend tests share: every implementation by name, random weights of every type, and
// comparisons.
namespace tandem {

struct NamedBackend {
  std::string name;
  std::unique_ptr<Backend> backend;
};

inline std::unique_ptr<Backend> CpuBackendOf(InstructionSet instructions, int threads,
                                             Activations activations = Activations::kFloat32) {
  auto backend = MakeCpuBackend(
      {.threads = threads, .instructions = instructions, .activations = activations});
  return backend.ok() ? *std::move(backend) : nullptr;  // null: this CPU lacks the instructions
}

struct NamedSet {
  absl::string_view name;
  InstructionSet set;
};
inline constexpr NamedSet kInstructionSets[] = {{"scalar", InstructionSet::kScalar},
                                                {"avx2", InstructionSet::kAvx2},
                                                {"avx512", InstructionSet::kAvx512},
                                                {"avx512vnni", InstructionSet::kAvx512Vnni}};

// The fast path over each instruction set of this CPU, with each number of threads.
inline std::vector<NamedBackend> FastBackends(std::initializer_list<int> threads = {1, 2},
                                              Activations activations = Activations::kFloat32) {
  std::vector<NamedBackend> all;
  for (const NamedSet& named : kInstructionSets) {
    for (const int count : threads) {
      if (auto backend = CpuBackendOf(named.set, count, activations); backend != nullptr) {
        all.push_back({absl::StrCat(named.name, " x", count), std::move(backend)});
      }
    }
  }
  return all;
}

// All implementations: the reference first.
inline std::vector<NamedBackend> AllBackends(std::initializer_list<int> threads = {1, 2}) {
  std::vector<NamedBackend> all;
  all.push_back({"reference", MakeReferenceBackend()});
  for (NamedBackend& fast : FastBackends(threads)) all.push_back(std::move(fast));
  return all;
}

inline std::vector<float> RandomFloats(int64_t count, uint32_t seed, float deviation = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// A matrix of random stored elements; scales are halves of about 0.01.
class RandomWeight {
 public:
  RandomWeight(DType dtype, int64_t rows, int64_t cols, uint32_t seed)
      : stored_(rows * BytesFor(dtype, cols)) {
    std::mt19937 random(seed);
    for (uint8_t& byte : stored_) byte = static_cast<uint8_t>(random());
    const DTypeInfo info = InfoOf(dtype);
    for (size_t block = 0; block < stored_.size(); block += info.block_bytes) {
      // Scales of scales are about a 32nd of the others.
      for (const int at : HalvesOf(dtype)) {
        const uint32_t exponent = info.block_elements == 256 ? 0x0c00 : 0x2000;
        Put(block + at, exponent | (random() & 0x83ff));
      }
      if (dtype == DType::kF16) Put(block, (random() & 0x87ff) | 0x2800);
      if (dtype == DType::kBF16) Put(block, (random() & 0x80ff) | 0x3d00);
      if (dtype == DType::kF32) {
        const float value = std::normal_distribution<float>(0, 0.1f)(random);
        std::memcpy(stored_.data() + block, &value, sizeof(value));
      }
    }
    view_ = {.name = "random",
             .dtype = dtype,
             .rows = rows,
             .cols = cols,
             .data = stored_.data(),
             .bytes = stored_.size()};
  }

  const WeightView& view() const { return view_; }
  std::vector<float> Row(int64_t row) const {
    std::vector<float> values(view_.cols);
    DequantizeRow(view_, row, absl::MakeSpan(values));
    return values;
  }

 private:
  // The bytes of a block where its scales begin.
  static std::vector<int> HalvesOf(DType dtype) {
    switch (dtype) {
      case DType::kQ8_0:
      case DType::kQ4_0:
        return {0};
      case DType::kQ4_1:
      case DType::kQ4_K:
      case DType::kQ5_K:
        return {0, 2};
      case DType::kQ6_K:
        return {208};
      default:
        return {};
    }
  }

  void Put(size_t at, uint32_t half) {
    const uint16_t value = static_cast<uint16_t>(half);
    std::memcpy(stored_.data() + at, &value, sizeof(value));
  }

  std::vector<uint8_t> stored_;
  WeightView view_;
};

// Equal bit for bit, with the first difference in the message.
inline ::testing::AssertionResult SameBits(const std::vector<float>& got,
                                           const std::vector<float>& want) {
  if (got.size() != want.size()) {
    return ::testing::AssertionFailure() << got.size() << " values, want " << want.size();
  }
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::memcmp(&got[i], &want[i], sizeof(float)) == 0) continue;
    return ::testing::AssertionFailure() << "value " << i << " is " << got[i] << ", want "
                                         << want[i] << " (differ by " << got[i] - want[i] << ")";
  }
  return ::testing::AssertionSuccess();
}

}  // namespace tandem
