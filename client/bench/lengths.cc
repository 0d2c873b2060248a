#include "client/bench/lengths.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status.h"
#include "client/bench/plan.h"

namespace tandem::bench {
namespace {

absl::StatusOr<uint32_t> Tokens(absl::string_view text, uint32_t least) {
  uint32_t tokens = 0;
  if (absl::SimpleAtoi(text, &tokens) && tokens >= least && tokens <= kTokensMax) return tokens;
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is no number of tokens from ",
                                                 least, " to ", kTokensMax,
                                                 "; give N, MIN-MAX or normal:MEAN:DEVIATION"));
}

}  // namespace

uint32_t Lengths::Draw(Random* random) const {
  double tokens = a;
  if (kind == Kind::kUniform) tokens = a + std::floor(random->Unit() * (b - a + 1));
  if (kind == Kind::kNormal) tokens = std::round(a + b * random->Normal());
  return static_cast<uint32_t>(std::clamp<double>(tokens, 1, kTokensMax));
}

absl::StatusOr<Lengths> ParseLengths(absl::string_view text) {
  Lengths lengths;
  absl::string_view rest = text;
  const bool normal = absl::ConsumePrefix(&rest, "normal:");
  const std::vector<absl::string_view> parts = absl::StrSplit(rest, normal ? ':' : '-');
  if (parts.size() == 1 && !normal) {
    ASSIGN_OR_RETURN(lengths.a, Tokens(parts[0], 1));
    return lengths;
  }
  if (parts.size() != 2) return Tokens(text, 1).status();
  lengths.kind = normal ? Lengths::Kind::kNormal : Lengths::Kind::kUniform;
  ASSIGN_OR_RETURN(lengths.a, Tokens(parts[0], 1));
  ASSIGN_OR_RETURN(lengths.b, Tokens(parts[1], normal ? 0 : 1));
  if (!normal && lengths.a > lengths.b) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\": the least is above the most"));
  }
  return lengths;
}

}  // namespace tandem::bench
