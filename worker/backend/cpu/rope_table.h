#pragma once
#include <cstdint>
#include <memory>
#include <vector>

namespace tandem {

struct SinCosPair {
  float sine = 0, cosine = 0;
};

// Of an angle in radians, at least 0 and below 2^20; each rounded once from about 16 digits. Plain
// multiplications and additions in double, so that it gives the same bits on every machine, which
// a C library's functions need not.
SinCosPair SinCos(float angle);

// Sine and cosine of position * inv_freq[i], made when a position is first asked for.
//   shape   per position [half] of sines, then [half] of cosines
//   threads one at a time
class RopeTable {
 public:
  explicit RopeTable(const std::vector<float>& inv_freq) : inv_freq_(inv_freq) {}

  // Makes positions [0, end) known.
  void Extend(int64_t end);
  const float* Sines(int64_t position) const { return Row(position); }
  const float* Cosines(int64_t position) const { return Row(position) + inv_freq_.size(); }

 private:
  static constexpr int64_t kPage = 256;  // positions
  const float* Row(int64_t position) const {
    return pages_[position / kPage].data() + position % kPage * 2 * inv_freq_.size();
  }

  const std::vector<float> inv_freq_;
  std::vector<std::vector<float>> pages_;
};

}  // namespace tandem
