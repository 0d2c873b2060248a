#pragma once
#include "absl/status/statusor.h"
#include "router/store/sql.h"
#include "router/store/usage.h"

// How admissions, rows of the ledger and totals lie in their tables.
namespace tandem {

constexpr char kAdmissionColumns[] =
    "charge_id, request_id, router, incarnation, organisation_id, product_id, key_id, model,"
    " admitted_us";
constexpr int kAdmissionColumnCount = 9;
constexpr char kUsageColumns[] =
    "charge_id, request_id, router, organisation_id, product_id, key_id, model, model_revision,"
    " outcome, finish_reason, prompt_tokens, cached_tokens, output_tokens, reasoning_tokens,"
    " admitted_us, ended_us, first_token_us, prefill_worker, decode_worker, attempts,"
    " price_version, amount_nano, currency, end_user";
constexpr int kUsageColumnCount = 24;
constexpr char kTotalColumns[] =
    "day, product_id, model, currency, requests, prompt_tokens, cached_tokens, output_tokens,"
    " reasoning_tokens, amount_nano";

SqlRow WriteAdmission(const Admission& admission);
SqlRow WriteUsage(const UsageRow& usage);
Admission ReadAdmission(RowReader& row);
absl::StatusOr<UsageRow> ReadUsage(const SqlRow& row);
absl::StatusOr<UsageTotal> ReadTotal(const SqlRow& row);

}  // namespace tandem
