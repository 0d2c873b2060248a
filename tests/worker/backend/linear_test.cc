#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support/status_matchers.h"
#include "tests/worker/backend/backends.h"

namespace tandem {
namespace {

struct LinearCase {
  int64_t outputs, cols;
};

// Odd outputs leave a panel partly filled; 1088 inputs are more than a stretch of the kernel.
constexpr LinearCase kCases[] = {{16, 32}, {1, 64}, {37, 96}, {130, 320}, {67, 1088}};
constexpr int64_t kPlainCols[] = {1, 7, 50};

class LinearTest : public ::testing::TestWithParam<DType> {
 public:
  std::vector<LinearCase> Cases() const {
    std::vector<LinearCase> cases(std::begin(kCases), std::end(kCases));
    for (LinearCase& one : cases) one.cols = WholeBlocks(one.cols);
    if (IsQuantized(GetParam())) return cases;
    for (const int64_t cols : kPlainCols) cases.push_back({19, cols});
    return cases;
  }

  // `cols`, rounded up to blocks of the type.
  static int64_t WholeBlocks(int64_t cols) {
    const int64_t block = InfoOf(GetParam()).block_elements;
    return (cols + block - 1) / block * block;
  }

  // Runs one layer; with `accumulate` on top of `out`.
  static std::vector<float> Run(Backend* backend, absl::Span<const WeightView> parts,
                                std::vector<float> x, int64_t rows, const std::vector<float>& bias,
                                std::vector<float> out, bool accumulate) {
    auto matrix = backend->PackMatrix(parts);
    EXPECT_THAT(matrix, IsOk());
    auto vector = backend->MakeVector(bias);
    const int64_t cols = (*matrix)->cols(), outputs = (*matrix)->rows();
    out.resize(rows * outputs);
    EXPECT_THAT(
        backend->Linear(**matrix, {x.data(), rows, cols}, bias.empty() ? nullptr : vector->get(),
                        accumulate, {out.data(), rows, outputs}),
        IsOk());
    EXPECT_THAT(backend->Synchronize(), IsOk());
    return out;
  }
};

// The bound: a chain of n roundings to float32 moves a sum of terms by at most n / 2^24 of the sum
// of their sizes, and in practice by the square root of n of that; unpacking rounds a weight twice.
TEST_P(LinearTest, EveryBackendIsWithinTheBoundOfDoubles) {
  const std::vector<NamedBackend> backends = AllBackends();
  for (const auto& [outputs, cols] : Cases()) {
    const RandomWeight weight(GetParam(), outputs, cols, 3);
    const int64_t rows = 5;
    const std::vector<float> x = RandomFloats(rows * cols, 4), bias = RandomFloats(outputs, 5);
    const std::vector<float> before = RandomFloats(rows * outputs, 6);
    const double relative = (8 + 2 * std::sqrt(static_cast<double>(cols))) * 0x1p-24;
    for (const auto& [name, backend] : backends) {
      SCOPED_TRACE(testing::Message() << name << ", " << outputs << " x " << cols);
      const std::vector<float> got =
          Run(backend.get(), {&weight.view(), 1}, x, rows, bias, before, true);
      for (int64_t n = 0; n < outputs; ++n) {
        const std::vector<float> row = weight.Row(n);
        for (int64_t r = 0; r < rows; ++r) {
          double want = double{bias[n]} + before[r * outputs + n];
          double size = std::abs(bias[n]) + std::abs(before[r * outputs + n]);
          for (int64_t k = 0; k < cols; ++k) {
            want += double{row[k]} * x[r * cols + k];
            size += std::abs(double{row[k]} * x[r * cols + k]);
          }
          ASSERT_NEAR(got[r * outputs + n], want, size * relative)
              << "row " << r << " output " << n;
        }
      }
    }
  }
}

// Every number of rows gives the bits that the last rows of 33 have on the first backend.
void ExpectSameBitsForAnyRows(const std::vector<NamedBackend>& backends, DType dtype,
                              const LinearCase& one) {
  constexpr int64_t kRowsMax = 33;
  const RandomWeight weight(dtype, one.outputs, one.cols, 7);
  const std::vector<float> x = RandomFloats(kRowsMax * one.cols, 8);
  const std::vector<float> all =
      LinearTest::Run(backends[0].backend.get(), {&weight.view(), 1}, x, kRowsMax, {}, {}, false);
  for (const auto& [name, backend] : backends) {
    for (int64_t rows = 1; rows <= kRowsMax; ++rows) {
      // The last rows, so that each row is met in many places of a tile.
      const std::vector<float> some(x.end() - rows * one.cols, x.end());
      const std::vector<float> want(all.end() - rows * one.outputs, all.end());
      const std::vector<float> got =
          LinearTest::Run(backend.get(), {&weight.view(), 1}, some, rows, {}, {}, false);
      ASSERT_TRUE(SameBits(got, want))
          << name << ", " << one.outputs << " x " << one.cols << ", " << rows << " rows";
    }
  }
}

TEST_P(LinearTest, BitsDoNotDependOnRowsThreadsOrInstructions) {
  const std::vector<NamedBackend> backends = FastBackends();
  for (const LinearCase& one : Cases()) ExpectSameBitsForAnyRows(backends, GetParam(), one);
}

TEST_P(LinearTest, BitsOfRoundedActivationsDoNotDependOnThemEither) {
  const std::vector<NamedBackend> backends = FastBackends({1, 2}, Activations::kInt8);
  for (const LinearCase& one : Cases()) ExpectSameBitsForAnyRows(backends, GetParam(), one);
}

// An input is off by up to half of its group's scale, the largest / 127, and nothing else is.
TEST_P(LinearTest, RoundedActivationsAreOffByHalfAScale) {
  if (!IsQuantized(GetParam()) || InfoOf(GetParam()).block_elements != 32) {
    GTEST_SKIP() << "these weights are multiplied as floats";
  }
  const auto backend = CpuBackendOf(InstructionSet::kBest, 1, Activations::kInt8);
  const int64_t outputs = 37, cols = 96, rows = 3;
  const RandomWeight weight(GetParam(), outputs, cols, 21);
  const std::vector<float> x = RandomFloats(rows * cols, 22);
  const std::vector<float> got = Run(backend.get(), {&weight.view(), 1}, x, rows, {}, {}, false);
  double largest_error = 0;
  for (int64_t n = 0; n < outputs; ++n) {
    const std::vector<float> row = weight.Row(n);
    for (int64_t r = 0; r < rows; ++r) {
      double want = 0, bound = 0;
      for (int64_t k = 0; k < cols; ++k) {
        const auto group = x.begin() + r * cols + k / 32 * 32;
        const auto by_size = [](float a, float b) { return std::abs(a) < std::abs(b); };
        const double scale = std::abs(*std::max_element(group, group + 32, by_size)) / 127;
        want += double{row[k]} * x[r * cols + k];
        bound += std::abs(row[k]) * scale / 2 + std::abs(double{row[k]} * x[r * cols + k]) * 1e-6;
      }
      const double error = std::abs(got[r * outputs + n] - want);
      ASSERT_LE(error, bound) << "row " << r << " output " << n;
      largest_error = std::max(largest_error, error / bound);
    }
  }
  EXPECT_GT(largest_error, 0.01) << "activations were not rounded";
}

// An outlier of 2^20 costs each input of its group no more than 2^-22 of that.
TEST_P(LinearTest, AnOutlierCostsItsGroupTheBitsBelowTheTwentySecond) {
  const int64_t outputs = 20, cols = WholeBlocks(64);
  const RandomWeight weight(GetParam(), outputs, cols, 23);
  std::vector<float> x = RandomFloats(cols, 24);
  x[5] = 0x1p20f;
  const auto backend = CpuBackendOf(InstructionSet::kBest, 1);
  const std::vector<float> got = Run(backend.get(), {&weight.view(), 1}, x, 1, {}, {}, false);
  for (int64_t n = 0; n < outputs; ++n) {
    const std::vector<float> row = weight.Row(n);
    double want = 0, bound = 0;
    for (int64_t k = 0; k < cols; ++k) {
      want += double{row[k]} * x[k];
      bound += std::abs(row[k]) * (k < 32 ? 0x1p20 * 0x1p-22 : 1e-5);
    }
    bound += std::abs(want) * 8 * 0x1p-24;  // the rounding of the sum itself
    EXPECT_NEAR(got[n], want, bound) << "output " << n;
  }
}

TEST_P(LinearTest, AnInputThatIsNotFiniteSpoilsItsRowAndNoOther) {
  const int64_t outputs = 20, cols = WholeBlocks(64);
  const RandomWeight weight(GetParam(), outputs, cols, 25);
  for (const float bad : {std::numeric_limits<float>::infinity(), std::nanf("")}) {
    std::vector<float> x = RandomFloats(2 * cols, 26);
    x[40] = bad;
    for (const auto& [name, backend] : FastBackends({1})) {
      const std::vector<float> got = Run(backend.get(), {&weight.view(), 1}, x, 2, {}, {}, false);
      for (int64_t n = 0; n < outputs; ++n) {
        EXPECT_FALSE(std::isfinite(got[n])) << name << " " << bad << " output " << n;
        EXPECT_TRUE(std::isfinite(got[outputs + n])) << name << " " << bad << " output " << n;
      }
    }
  }
}

// More rows than the kernel's block of them, so that a block starts in the middle.
TEST_P(LinearTest, ManyRowsEqualFewRows) {
  const int64_t rows = 400, outputs = 40, cols = WholeBlocks(64);
  const RandomWeight weight(GetParam(), outputs, cols, 9);
  const std::vector<float> x = RandomFloats(rows * cols, 10);
  for (const auto& [name, backend] : FastBackends()) {
    const std::vector<float> all = Run(backend.get(), {&weight.view(), 1}, x, rows, {}, {}, false);
    for (const int64_t row : {0, 191, 192, 200, 399}) {
      const std::vector<float> one(x.begin() + row * cols, x.begin() + (row + 1) * cols);
      const std::vector<float> want(all.begin() + row * outputs, all.begin() + (row + 1) * outputs);
      EXPECT_TRUE(SameBits(Run(backend.get(), {&weight.view(), 1}, one, 1, {}, {}, false), want))
          << name << " row " << row;
    }
  }
}

TEST_P(LinearTest, EmbeddingRowsAreTheDequantisedWeights) {
  const int64_t cols = WholeBlocks(96);
  const RandomWeight weight(GetParam(), 37, cols, 11);
  const int32_t ids[] = {36, 0, 17, 17};
  const std::vector<NamedBackend> backends = AllBackends();
  for (const auto& [name, backend] : backends) {
    auto matrix = backend->PackMatrix({&weight.view(), 1});
    ASSERT_THAT(matrix, IsOk());
    std::vector<float> got(4 * cols), want;
    ASSERT_THAT(backend->Embed(**matrix, ids, {got.data(), 4, cols}), IsOk());
    ASSERT_THAT(backend->Synchronize(), IsOk());
    for (const int32_t id : ids) {
      const std::vector<float> row = weight.Row(id);
      want.insert(want.end(), row.begin(), row.end());
    }
    EXPECT_TRUE(SameBits(got, want)) << name;
  }
}

// q, k and v of a file may have different types, and GGUF stores rows in another order.
TEST_P(LinearTest, PartsOfOtherTypesAndRowOrdersAreStacked) {
  const int64_t cols = WholeBlocks(64);
  RandomWeight first(GetParam(), 24, cols, 12), second(DType::kQ8_0, 10, cols, 13);
  WeightView reordered = first.view();
  for (int32_t i = 0; i < 24; ++i) reordered.row_order.push_back(23 - i);
  const WeightView parts[] = {reordered, second.view(), first.view()};
  const std::vector<float> x = RandomFloats(cols, 14), bias = RandomFloats(58, 15);
  const auto reference = MakeReferenceBackend();
  const std::vector<float> want = Run(reference.get(), parts, x, 1, bias, {}, false);
  ASSERT_EQ(want.size(), 58);
  const std::vector<float> in_order = Run(reference.get(), {&first.view(), 1}, x, 1, {}, {}, false);
  EXPECT_NEAR(want[0] - bias[0], in_order[23], 1e-5);
  EXPECT_NEAR(want[34] - bias[34], in_order[0], 1e-5);
  for (const auto& [name, backend] : FastBackends()) {
    const std::vector<float> got = Run(backend.get(), parts, x, 1, bias, {}, false);
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_NEAR(got[i], want[i], 1e-4 * (1 + std::abs(want[i]))) << name << " output " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, LinearTest, ::testing::ValuesIn(kAllDTypes),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

TEST(PackMatrix, WeightsThatDoNotFitAreRefusedByName) {
  const RandomWeight wide(DType::kF32, 3, 8, 1), narrow(DType::kF32, 3, 4, 1);
  WeightView cut = wide.view();
  cut.name = "cut";
  cut.bytes -= 1;
  const WeightView differing[] = {wide.view(), narrow.view()};
  const std::vector<NamedBackend> backends = AllBackends();
  for (const auto& [name, backend] : backends) {
    EXPECT_THAT(backend->PackMatrix({&cut, 1}),
                StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("\"cut\"")));
    EXPECT_THAT(backend->PackMatrix(differing),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         ::testing::HasSubstr("4 columns, \"random\" has 8")));
    EXPECT_THAT(backend->PackVector({&wide.view(), 1}),
                StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("3 rows")));
  }
}

}  // namespace
}  // namespace tandem
