#pragma once
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/bench/random.h"

namespace tandem::bench {

// How many tokens prompts or outputs have.
struct Lengths {
  enum class Kind { kFixed, kUniform, kNormal };
  Kind kind = Kind::kFixed;
  double a = 1;  // the number; the least; the mean
  double b = 1;  // the most; the standard deviation

  // From 1 to kTokensMax; a draw beyond is cut to that.
  uint32_t Draw(Random* random) const;
};

// "512", "100-1000" (each as likely), "normal:512:64" (mean and deviation).
//   errors  InvalidArgument says what was wrong and lists the forms
absl::StatusOr<Lengths> ParseLengths(absl::string_view text);

}  // namespace tandem::bench
