#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "worker/backend/backend.h"
#include "worker/backend/cpu/huge_pages.h"
#include "worker/model/weight_view.h"

namespace tandem {

// A weight matrix in panels of 16 outputs, interleaved so that a vector holds the weights of one
// input for 16 outputs. What is stored stays as it was: packing only moves codes and scales
// (panel_formats.h has the order of a panel).
class PackedMatrix final : public Matrix {
 public:
  // Neighbouring rows of one type; the last panel is filled up with zeros. Panels lie in groups of
  // kGroupPanels, a group's steps interleaved.
  struct Segment {
    DType dtype = DType::kF32;
    int64_t first_row = 0;
    int64_t rows = 0;
    int64_t panels = 0;
    size_t panel_bytes = 0;
    uint8_t* data = nullptr;
  };

  // Calls work(i) for i in [0, count), perhaps on several threads at a time.
  using ForEach = absl::FunctionRef<void(int64_t count, absl::FunctionRef<void(int64_t i)> work)>;

  // `parts` are valid (weights.h). The bytes lie in `arena`.
  static absl::StatusOr<std::unique_ptr<PackedMatrix>> Pack(absl::Span<const WeightView> parts,
                                                            Arena* arena, ForEach for_each);

  const std::vector<Segment>& segments() const { return segments_; }
  size_t bytes() const;
  // The float32 values of one row, by the definitions in dtype.h.
  void UnpackRow(int64_t row, float* out) const;

 private:
  PackedMatrix(int64_t rows, int64_t cols) : Matrix(rows, cols) {}
  std::vector<Segment> segments_;
};

}  // namespace tandem
