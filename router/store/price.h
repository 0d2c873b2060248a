#pragma once
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace tandem {

enum class PriceKind { kInput = 1, kCachedInput = 2, kOutput = 3, kReasoning = 4, kRequest = 5 };

// One version of one price. Rows of the ledger name the price they were made with, so a price is
// never changed: a later one takes over at its `effective_from`, and a correction is another row
// with the same one.
struct Price {
  std::string id;
  std::string model;
  PriceKind kind = PriceKind::kInput;
  std::string per_million;       // a decimal such as "0.60", for 10^6 tokens (or requests)
  int64_t nano_per_million = 0;  // the same in units of 10^-9; must agree
  std::string currency;          // three capital letters
  absl::Time effective_from;
  int64_t revision = 0;  // set by the store; see Store::Commit
};

// A decimal of money in nano-units: digits, at most nine of them after a point, no sign, no
// exponent, and not above int64's reach (9.2e9 whole units). InvalidArgument says what is wrong.
absl::StatusOr<int64_t> ParseNanoUnits(absl::string_view decimal);

}  // namespace tandem
