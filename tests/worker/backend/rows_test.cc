// Operations on single rows: norms, SwiGLU, gathering; and the checks before every operation.
#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/status_matchers.h"
#include "tests/worker/backend/backends.h"
#include "worker/backend/cpu/rope_table.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

std::vector<float> Norm(Backend* backend, std::vector<float> x, int64_t rows, float eps) {
  const int64_t cols = static_cast<int64_t>(x.size()) / rows;
  auto weight = backend->MakeVector(RandomFloats(cols, 2));
  std::vector<float> out(x.size());
  EXPECT_THAT(backend->RmsNorm({x.data(), rows, cols}, **weight, eps, {out.data(), rows, cols}),
              IsOk());
  EXPECT_THAT(backend->Synchronize(), IsOk());
  return out;
}

TEST(RmsNorm, IsWithinTheBoundAndEqualOnAllSets) {
  const std::vector<NamedBackend> backends = FastBackends();
  for (const int64_t cols : {1, 8, 16, 50, 576, 1537}) {
    for (const int64_t rows : {1, 3, 40}) {
      const std::vector<float> x = RandomFloats(rows * cols, 1, 3.0f);
      const std::vector<float> want = Norm(MakeReferenceBackend().get(), x, rows, 1e-5f);
      const std::vector<float> first = Norm(backends[0].backend.get(), x, rows, 1e-5f);
      for (size_t i = 0; i < want.size(); ++i) {
        ASSERT_NEAR(first[i], want[i], 16 * 0x1p-24 * std::abs(want[i]) + 1e-30) << cols;
      }
      for (const auto& [name, backend] : backends) {
        EXPECT_TRUE(SameBits(Norm(backend.get(), x, rows, 1e-5f), first)) << name << " " << cols;
      }
    }
  }
}

TEST(RmsNorm, ARowOfZerosStaysZero) {
  for (const auto& [name, backend] : FastBackends()) {
    EXPECT_THAT(Norm(backend.get(), std::vector<float>(48), 1, 1e-5f), ::testing::Each(0.0f));
  }
}

std::vector<float> Gate(Backend* backend, std::vector<float> gate_up, int64_t rows) {
  const int64_t cols = static_cast<int64_t>(gate_up.size()) / rows / 2;
  std::vector<float> out(rows * cols);
  EXPECT_THAT(backend->SwiGlu({gate_up.data(), rows, 2 * cols}, {out.data(), rows, cols}), IsOk());
  EXPECT_THAT(backend->Synchronize(), IsOk());
  return out;
}

TEST(SwiGlu, IsWithinTheBoundAndEqualOnAllSetsOverTheWholeRange) {
  const std::vector<NamedBackend> backends = FastBackends();
  const int64_t cols = 1003;
  std::vector<float> gate_up(2 * cols, 1.5f);
  for (int64_t i = 0; i < cols; ++i) gate_up[i] = 0.4f * static_cast<float>(i - cols / 2);
  const std::vector<float> want = Gate(MakeReferenceBackend().get(), gate_up, 1);
  const std::vector<float> first = Gate(backends[0].backend.get(), gate_up, 1);
  for (int64_t i = 0; i < cols; ++i) {
    EXPECT_NEAR(first[i], want[i], 12 * 0x1p-24 * std::abs(want[i]) + 1e-30) << gate_up[i];
  }
  for (const auto& [name, backend] : backends) {
    EXPECT_TRUE(SameBits(Gate(backend.get(), gate_up, 1), first)) << name;
  }
  const std::vector<float> many = RandomFloats(int64_t{40} * 2 * 50, 3, 4.0f);
  const std::vector<float> rows = Gate(backends[0].backend.get(), many, 40);
  for (const auto& [name, backend] : backends) {
    EXPECT_TRUE(SameBits(Gate(backend.get(), many, 40), rows)) << name;
  }
}

TEST(GatherRows, CopiesRowsInTheOrderAsked) {
  std::vector<float> x = {1, 2, 3, 4, 5, 6};
  const int32_t rows[] = {2, 0};
  for (const auto& [name, backend] : FastBackends()) {
    std::vector<float> out(4);
    ASSERT_THAT(backend->GatherRows({x.data(), 3, 2}, rows, {out.data(), 2, 2}), IsOk());
    ASSERT_THAT(backend->Synchronize(), IsOk());
    EXPECT_THAT(out, ::testing::ElementsAre(5, 6, 1, 2)) << name;
  }
}

TEST(SinCos, IsTheNearestFloatButForDoubleRounding) {
  for (int i = 0; i < 200000; ++i) {
    const float angle = i < 100000 ? 0.001f * static_cast<float>(i) : 7.3f * static_cast<float>(i);
    const SinCosPair pair = SinCos(angle);
    ASSERT_NEAR(pair.sine, std::sin(double{angle}), 0x1.001p-25) << angle;
    ASSERT_NEAR(pair.cosine, std::cos(double{angle}), 0x1.001p-25) << angle;
  }
}

TEST(Backend, WrongShapesAreRefusedByOperationAndName) {
  const auto backend = MakeReferenceBackend();
  std::vector<float> data(64);
  const auto tensor = [&](int64_t rows, int64_t cols) { return Tensor{data.data(), rows, cols}; };
  const auto refused = [](const char* what) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what));
  };
  const RandomWeight weight(DType::kF32, 4, 8, 1);
  auto matrix = backend->PackMatrix({&weight.view(), 1});
  auto vector = backend->MakeVector(std::vector<float>(3));
  const int32_t ids[] = {0, 4};
  std::vector<float> other(64);
  const Tensor out{other.data(), 2, 4};
  EXPECT_THAT(backend->Embed(**matrix, ids, tensor(2, 7)),
              refused("Embed: out must be [2, 8], is [2, 7]"));
  EXPECT_THAT(backend->Embed(**matrix, ids, tensor(2, 8)),
              refused("Embed: ids[1] is 4, outside [0, 4)"));
  EXPECT_THAT(backend->RmsNorm(tensor(2, 4), **vector, 0, out),
              refused("RmsNorm: weight must have 4 elements, has 3"));
  EXPECT_THAT(backend->Linear(**matrix, tensor(2, 7), nullptr, false, out),
              refused("Linear: x must be [2, 8], is [2, 7]"));
  EXPECT_THAT(backend->Linear(**matrix, tensor(2, 8), vector->get(), false, out),
              refused("Linear: bias must have 4 elements, has 3"));
  EXPECT_THAT(backend->Linear(**matrix, {nullptr, 2, 8}, nullptr, false, out),
              refused("Linear: x must be [2, 8], is [2, 8] without data"));
  EXPECT_THAT(backend->SwiGlu(tensor(2, 9), out), refused("SwiGlu: gate_up must be [2, 8]"));
  EXPECT_THAT(backend->GatherRows(tensor(4, 4), ids, out), refused("GatherRows: rows[1] is 4"));
}

TEST(MakeCpuBackend, RefusesAnImpossibleNumberOfThreads) {
  EXPECT_THAT(MakeCpuBackend({.threads = -1}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("-1 threads")));
}

}  // namespace
}  // namespace tandem
