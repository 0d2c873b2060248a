#include "router/store/ledger_rows.h"

#include "base/status.h"

namespace tandem {
namespace {

TokenUsage ReadTokens(RowReader& row) {
  TokenUsage tokens;
  tokens.prompt = row.Int();
  tokens.cached = row.Int();
  tokens.output = row.Int();
  tokens.reasoning = row.Int();
  return tokens;
}

UsageParty ReadParty(RowReader& row) {
  UsageParty party;
  party.organisation_id = row.Text();
  party.product_id = row.Text();
  party.key_id = row.Text();
  party.model = row.Text();
  return party;
}

SqlValue FirstToken(const UsageRow& usage) {
  if (!usage.time_to_first_token) return SqlValue();
  return absl::ToInt64Microseconds(*usage.time_to_first_token);
}

}  // namespace

SqlRow WriteAdmission(const Admission& admission) {
  const UsageParty& party = admission.party;
  return {admission.charge_id,
          admission.request_id,
          admission.router,
          static_cast<int64_t>(admission.incarnation),
          party.organisation_id,
          party.product_id,
          party.key_id,
          party.model,
          SqlTime(admission.admitted)};
}

SqlRow WriteUsage(const UsageRow& usage) {
  return {usage.charge_id,
          usage.request_id,
          usage.router,
          usage.party.organisation_id,
          usage.party.product_id,
          usage.party.key_id,
          usage.party.model,
          usage.model_revision,
          static_cast<int64_t>(usage.outcome),
          usage.finish_reason,
          usage.tokens.prompt,
          usage.tokens.cached,
          usage.tokens.output,
          usage.tokens.reasoning,
          SqlTime(usage.admitted),
          SqlTime(usage.ended),
          FirstToken(usage),
          usage.prefill_worker,
          usage.decode_worker,
          usage.attempts,
          usage.price_version,
          usage.amount_nano,
          usage.currency,
          usage.end_user};
}

Admission ReadAdmission(RowReader& row) {
  Admission admission;
  admission.charge_id = row.Text();
  admission.request_id = row.Text();
  admission.router = row.Text();
  admission.incarnation = static_cast<uint64_t>(row.Int());
  admission.party = ReadParty(row);
  admission.admitted = row.Time();
  return admission;
}

absl::StatusOr<UsageRow> ReadUsage(const SqlRow& row) {
  RowReader reader(row);
  UsageRow usage;
  usage.charge_id = reader.Text();
  usage.request_id = reader.Text();
  usage.router = reader.Text();
  usage.party = ReadParty(reader);
  usage.model_revision = reader.Text();
  usage.outcome = static_cast<UsageOutcome>(reader.Int());
  usage.finish_reason = reader.Text();
  usage.tokens = ReadTokens(reader);
  usage.admitted = reader.Time();
  usage.ended = reader.Time();
  const std::optional<int64_t> first_token = reader.MaybeInt();
  if (first_token) usage.time_to_first_token = absl::Microseconds(*first_token);
  usage.prefill_worker = reader.Text();
  usage.decode_worker = reader.Text();
  usage.attempts = reader.Int();
  usage.price_version = reader.Text();
  usage.amount_nano = reader.Int();
  usage.currency = reader.Text();
  usage.end_user = reader.Text();
  RETURN_IF_ERROR(Annotate(reader.Done(), "usage"));
  return usage;
}

absl::StatusOr<UsageTotal> ReadTotal(const SqlRow& row) {
  RowReader reader(row);
  UsageTotal total;
  total.day = static_cast<UsageDay>(reader.Int());
  total.product_id = reader.Text();
  total.model = reader.Text();
  total.currency = reader.Text();
  total.requests = reader.Int();
  total.tokens = ReadTokens(reader);
  total.amount_nano = reader.Int();
  RETURN_IF_ERROR(Annotate(reader.Done(), "usage_totals"));
  return total;
}

}  // namespace tandem
