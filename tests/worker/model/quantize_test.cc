#include "worker/model/quantize.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <random>

#include "tests/support/status_matchers.h"
#include "worker/model/dequant.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

WeightView ViewOf(const std::vector<float>& values, int64_t rows) {
  return {.name = "w",
          .dtype = DType::kF32,
          .rows = rows,
          .cols = static_cast<int64_t>(values.size()) / rows,
          .data = reinterpret_cast<const uint8_t*>(values.data()),
          .bytes = values.size() * sizeof(float)};
}

std::vector<float> Normal(int64_t count, float deviation) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<float> RowOf(const QuantizedWeight& weight, int64_t row) {
  std::vector<float> values(weight.view.cols);
  DequantizeRow(weight.view, row, absl::MakeSpan(values));
  return values;
}

struct Errors {
  double largest = 0;   // in scales of the group
  double relative = 0;  // root mean square, of that of the values
};

Errors ErrorsOf(DType to, const std::vector<float>& values) {
  const int64_t rows = 8;
  const absl::StatusOr<QuantizedWeight> weight = Quantize(ViewOf(values, rows), to);
  EXPECT_THAT(weight, IsOk());
  Errors errors;
  double squares = 0, all = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const std::vector<float> got = RowOf(*weight, r);
    for (int64_t k = 0; k < got.size(); ++k) {
      const float* const group = values.data() + r * got.size() + k / 32 * 32;
      double largest = 0;
      for (int i = 0; i < 32; ++i) largest = std::max(largest, std::abs(double{group[i]}));
      const double scale = largest / (to == DType::kQ8_0 ? 127 : 8);
      const double error = double{got[k]} - values[r * got.size() + k];
      errors.largest = std::max(errors.largest, std::abs(error) / scale);
      squares += error * error;
      all += double{values[r * got.size() + k]} * values[r * got.size() + k];
    }
  }
  errors.relative = std::sqrt(squares / all);
  return errors;
}

// Normal values in groups of 32 have a largest of about 2.1 deviations, and errors spread evenly
// over a scale have a root mean square of scale / sqrt(12): 0.5 % and, with 8 steps, 7.6 %. A half
// has 11 bits, which moves a code of 127 by up to 0.06 scales.
TEST(Quantize, EightBitsAreOffByHalfAScale) {
  const Errors errors = ErrorsOf(DType::kQ8_0, Normal(8 * 256, 0.02f));
  EXPECT_LT(errors.largest, 0.57);
  EXPECT_GT(errors.largest, 0.3);
  EXPECT_NEAR(errors.relative, 0.005, 0.001);
}

TEST(Quantize, FourBitsAreOffByHalfAScaleOrAWholeOneOppositeTheLargest) {
  const Errors errors = ErrorsOf(DType::kQ4_0, Normal(8 * 256, 0.02f));
  EXPECT_LT(errors.largest, 1.01);
  EXPECT_NEAR(errors.relative, 0.08, 0.015);
}

TEST(Quantize, TheLargestKeepsItsSignAndTinyOrZeroGroupsBecomeZero) {
  std::vector<float> values(3 * 32);
  values[7] = -3, values[9] = 2.9f;
  for (int i = 64; i < 96; ++i) values[i] = 1e-12f;
  for (const DType to : {DType::kQ8_0, DType::kQ4_0}) {
    const absl::StatusOr<QuantizedWeight> weight = Quantize(ViewOf(values, 1), to);
    ASSERT_THAT(weight, IsOk());
    const std::vector<float> got = RowOf(*weight, 0);
    EXPECT_NEAR(got[7], -3, 0.01) << NameOf(to);
    for (int i = 32; i < 96; ++i) EXPECT_EQ(got[i], 0) << NameOf(to) << " " << i;
  }
}

TEST(Quantize, ThreadsDoNotChangeIt) {
  const std::vector<float> values = Normal(7 * 64, 1);
  const absl::StatusOr<QuantizedWeight> one = Quantize(ViewOf(values, 7), DType::kQ4_0, 1);
  const absl::StatusOr<QuantizedWeight> three = Quantize(ViewOf(values, 7), DType::kQ4_0, 3);
  ASSERT_THAT(one, IsOk());
  ASSERT_THAT(three, IsOk());
  EXPECT_EQ(one->blocks, three->blocks);
}

TEST(Quantize, KeepsTheRowOrderOfTheFile) {
  const std::vector<float> values = Normal(2 * 32, 1);
  WeightView view = ViewOf(values, 2);
  view.row_order = {1, 0};
  const absl::StatusOr<QuantizedWeight> weight = Quantize(view, DType::kQ8_0);
  ASSERT_THAT(weight, IsOk());
  EXPECT_NEAR(RowOf(*weight, 0)[0], values[32], 0.05);
}

TEST(Quantize, ValuesThatAreNotFiniteAreRefusedByName) {
  std::vector<float> values = Normal(4 * 32, 1);
  values[3 * 32 + 1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(Quantize(ViewOf(values, 2), DType::kQ8_0),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("weight \"w\": row 1 has a value that is not finite near column "
                                 "32")));
}

TEST(TypeUnder, LeavesWhatIsQuantisedOrHasNoWholeGroups) {
  WeightView view{.dtype = DType::kBF16, .rows = 2, .cols = 64};
  EXPECT_EQ(TypeUnder(WeightScheme::kStored, "q", view), DType::kBF16);
  EXPECT_EQ(TypeUnder(WeightScheme::kInt8, "q", view), DType::kQ8_0);
  EXPECT_EQ(TypeUnder(WeightScheme::kInt4, "q", view), DType::kQ4_0);
  EXPECT_EQ(TypeUnder(WeightScheme::kInt4, "embed", view), DType::kQ8_0);
  EXPECT_EQ(TypeUnder(WeightScheme::kInt4, "lm_head", view), DType::kQ8_0);
  view.cols = 48;
  EXPECT_EQ(TypeUnder(WeightScheme::kInt8, "q", view), DType::kBF16);
  view.cols = 64;
  view.dtype = DType::kQ4_1;
  EXPECT_EQ(TypeUnder(WeightScheme::kInt8, "q", view), DType::kQ4_1);
}

TEST(NearestHalf, IsTheReverseOfHalfToFloatAndRoundsToEven) {
  for (uint32_t half = 0; half < 0x10000; ++half) {
    const float value = HalfToFloat(static_cast<uint16_t>(half));
    if (!std::isfinite(value)) continue;
    ASSERT_EQ(NearestHalf(value), half);
  }
  EXPECT_EQ(NearestHalf(1 + 0x1p-11f), 0x3c00);  // half way, to even
  EXPECT_EQ(NearestHalf(1 + 0x1.8p-10f), 0x3c02);
  EXPECT_EQ(NearestHalf(0x1.ffep-15f + 0x1p-26f), 0x0400);
  EXPECT_EQ(NearestHalf(1e9f), 0x7bff);
}

}  // namespace
}  // namespace tandem
