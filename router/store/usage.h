#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "absl/time/time.h"

// The usage ledger: one admission record before a request's first token, one immutable row when it
// is over. Both carry the charge id that the router drew for the request, and neither is updated.
namespace tandem {

// Who a request is charged to.
struct UsageParty {
  std::string organisation_id;
  std::string product_id;
  std::string key_id;
  std::string model;
};

// ADMIT: durable before the first token leaves.
struct Admission {
  std::string charge_id;     // drawn by the router, unique for ever
  std::string request_id;    // the client's, or drawn; may repeat
  std::string router;        // the router's configured name
  uint64_t incarnation = 0;  // of that router's process
  UsageParty party;
  absl::Time admitted;
};

enum class UsageOutcome {
  kOk = 1,
  kCancelled = 2,
  kFailed = 3,
  kRefused = 4,    // after it was admitted
  kAbandoned = 5,  // its router died before the end: tokens and money are unknown, and 0
};

struct TokenUsage {
  int64_t prompt = 0;  // includes cached
  int64_t cached = 0;
  int64_t output = 0;  // includes reasoning; delivered, not computed
  int64_t reasoning = 0;
};

// TERMINAL: durable before the last message leaves.
struct UsageRow {
  std::string charge_id;
  std::string request_id;
  std::string router;
  UsageParty party;
  std::string model_revision;
  UsageOutcome outcome = UsageOutcome::kOk;
  std::string finish_reason;
  TokenUsage tokens;
  absl::Time admitted;
  absl::Time ended;
  std::optional<absl::Duration> time_to_first_token;
  std::string prefill_worker, decode_worker;  // the last attempt's
  int64_t attempts = 1;
  std::string price_version;  // empty: no price was set
  int64_t amount_nano = 0;    // money, in 10^-9 of `currency`
  std::string currency;
  std::string end_user;  // a pseudonym, never what the client sent
};

using LedgerEvent = std::variant<Admission, UsageRow>;

// What an Append wrote; the rest was there already.
struct LedgerWritten {
  int64_t admissions = 0;
  int64_t rows = 0;
};

// Days since 1970-01-01 in UTC.
enum class UsageDay : int64_t {};
UsageDay UsageDayOf(absl::Time time);

// One line of the derived totals; requests that ended on `day`.
struct UsageTotal {
  UsageDay day{};
  std::string product_id, model, currency;
  int64_t requests = 0;
  TokenUsage tokens;
  int64_t amount_nano = 0;
};

struct UsageFilter {
  std::optional<UsageDay> first_day, last_day;  // both included
  std::string product_id, model;                // empty: all
};

// Which admissions without a row are orphans: those of an earlier life of this router, and those
// of any router that are older than a request can be.
struct OrphanQuery {
  std::string router;
  uint64_t incarnation = 0;    // that lives
  absl::Time admitted_before;  // of any router
  absl::Time now;              // becomes the row's end
};

struct OrphansClosed {
  int64_t abandoned = 0;  // rows written
  int64_t forgotten = 0;  // admission records that had, or now have, their row, and are gone
  bool more = false;      // call again
};

}  // namespace tandem
