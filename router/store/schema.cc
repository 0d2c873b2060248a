#include "router/store/schema.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/status.h"

namespace tandem {
namespace {

// Statements are in one language but for four words, which InDialect replaces:
//   {int} 64 bits   {text} compares by its bytes   {blob}   {table} options after the last column
// A migration that was ever released is never edited: what must change is another one.
constexpr const char* kVersion1[] = {
    "CREATE TABLE counters (name {text} PRIMARY KEY, value {int} NOT NULL){table}",
    "INSERT INTO counters (name, value) VALUES ('revision', 0), ('audit', 0), ('totals', 0)",

    "CREATE TABLE organisations (id {text} PRIMARY KEY, name {text} NOT NULL,"
    " disabled {int} NOT NULL, created_us {int} NOT NULL, revision {int} NOT NULL){table}",
    "CREATE INDEX organisations_revision ON organisations (revision)",

    "CREATE TABLE products (id {text} PRIMARY KEY,"
    " organisation_id {text} NOT NULL REFERENCES organisations (id), name {text} NOT NULL,"
    " disabled {int} NOT NULL, created_us {int} NOT NULL, revision {int} NOT NULL){table}",
    "CREATE INDEX products_organisation ON products (organisation_id, id)",
    "CREATE INDEX products_revision ON products (revision)",

    "CREATE TABLE keys (id {text} PRIMARY KEY, kind {int} NOT NULL,"
    " organisation_id {text} REFERENCES organisations (id),"
    " product_id {text} REFERENCES products (id), name {text} NOT NULL,"
    " secret1 {blob}, secret1_created_us {int}, secret1_expires_us {int},"
    " secret2 {blob}, secret2_created_us {int}, secret2_expires_us {int},"
    " models {text} NOT NULL, expires_us {int}, revoked_us {int}, created_us {int} NOT NULL,"
    " revision {int} NOT NULL){table}",
    "CREATE INDEX keys_product ON keys (product_id, id)",
    "CREATE INDEX keys_revision ON keys (revision)",

    "CREATE TABLE limits (id {text} PRIMARY KEY, scope {int} NOT NULL, subject {text} NOT NULL,"
    " metric {int} NOT NULL, time_window {int} NOT NULL, amount {int} NOT NULL,"
    " currency {text} NOT NULL, weight_prompt {int} NOT NULL, weight_cached {int} NOT NULL,"
    " weight_output {int} NOT NULL, shadow {int} NOT NULL, on_store_failure {int} NOT NULL,"
    " removed {int} NOT NULL, revision {int} NOT NULL){table}",
    "CREATE INDEX limits_subject ON limits (subject, id)",
    "CREATE INDEX limits_revision ON limits (revision)",

    "CREATE TABLE prices (id {text} PRIMARY KEY, model {text} NOT NULL, kind {int} NOT NULL,"
    " per_million {text} NOT NULL, nano_per_million {int} NOT NULL, currency {text} NOT NULL,"
    " effective_us {int} NOT NULL, revision {int} NOT NULL){table}",
    "CREATE INDEX prices_model ON prices (model, kind, effective_us)",
    "CREATE INDEX prices_revision ON prices (revision)",

    "CREATE TABLE admissions (charge_id {text} PRIMARY KEY, request_id {text} NOT NULL,"
    " router {text} NOT NULL, incarnation {int} NOT NULL, organisation_id {text} NOT NULL,"
    " product_id {text} NOT NULL, key_id {text} NOT NULL, model {text} NOT NULL,"
    " admitted_us {int} NOT NULL){table}",
    "CREATE INDEX admissions_admitted ON admissions (admitted_us)",

    "CREATE TABLE usage (charge_id {text} PRIMARY KEY, request_id {text} NOT NULL,"
    " router {text} NOT NULL, organisation_id {text} NOT NULL, product_id {text} NOT NULL,"
    " key_id {text} NOT NULL, model {text} NOT NULL, model_revision {text} NOT NULL,"
    " outcome {int} NOT NULL, finish_reason {text} NOT NULL, prompt_tokens {int} NOT NULL,"
    " cached_tokens {int} NOT NULL, output_tokens {int} NOT NULL, reasoning_tokens {int} NOT NULL,"
    " admitted_us {int} NOT NULL, ended_us {int} NOT NULL, first_token_us {int},"
    " prefill_worker {text} NOT NULL, decode_worker {text} NOT NULL, attempts {int} NOT NULL,"
    " price_version {text} NOT NULL, amount_nano {int} NOT NULL, currency {text} NOT NULL,"
    " end_user {text} NOT NULL){table}",
    "CREATE INDEX usage_ended ON usage (ended_us, charge_id)",

    "CREATE TABLE usage_totals (day {int} NOT NULL, product_id {text} NOT NULL,"
    " model {text} NOT NULL, currency {text} NOT NULL, requests {int} NOT NULL,"
    " prompt_tokens {int} NOT NULL, cached_tokens {int} NOT NULL, output_tokens {int} NOT NULL,"
    " reasoning_tokens {int} NOT NULL, amount_nano {int} NOT NULL,"
    " PRIMARY KEY (day, product_id, model, currency)){table}",

    "CREATE TABLE audit (sequence {int} PRIMARY KEY, principal {text} NOT NULL,"
    " method {text} NOT NULL, request_id {text} NOT NULL, resource {text} NOT NULL,"
    " outcome {text} NOT NULL, when_us {int} NOT NULL, before_json {text} NOT NULL,"
    " after_json {text} NOT NULL){table}",

    "CREATE TABLE admin_calls (principal {text} NOT NULL, request_id {text} NOT NULL,"
    " request_digest {blob} NOT NULL, response {blob} NOT NULL, when_us {int} NOT NULL,"
    " PRIMARY KEY (principal, request_id)){table}",
    "CREATE INDEX admin_calls_when ON admin_calls (when_us)",
};

// Number N is at index N - 1.
const std::array<absl::Span<const char* const>, 1> kMigrations = {kVersion1};

std::string InDialect(absl::string_view statement, SqlDialect dialect) {
  const bool sqlite = dialect == SqlDialect::kSqlite;
  return absl::StrReplaceAll(statement, {{"{int}", sqlite ? "INTEGER" : "BIGINT"},
                                         {"{text}", sqlite ? "TEXT" : "TEXT COLLATE \"C\""},
                                         {"{blob}", sqlite ? "BLOB" : "BYTEA"},
                                         {"{table}", sqlite ? " STRICT" : ""}});
}

// SQLite's write transactions exclude one another; PostgreSQL's need to be told, also before there
// is a table to lock. The number is only Tandem's own.
absl::Status LockSchema(SqlSession& session, SqlDialect dialect) {
  if (dialect == SqlDialect::kSqlite) return absl::OkStatus();
  return ToStatus(session.Run("SELECT pg_advisory_xact_lock(7237970109966541)", {}));
}

absl::StatusOr<int64_t> ReadVersion(SqlSession& session, SqlDialect dialect) {
  RETURN_IF_ERROR(session.Run(InDialect("CREATE TABLE IF NOT EXISTS schema_version"
                                        " (version {int} PRIMARY KEY){table}",
                                        dialect),
                              {}));
  ASSIGN_OR_RETURN(const SqlResult result,
                   session.Run("SELECT COALESCE(MAX(version), 0) FROM schema_version", {}));
  if (result.rows.size() != 1) return absl::DataLossError("no schema version");
  RowReader reader(result.rows[0]);
  const int64_t version = reader.Int();
  RETURN_IF_ERROR(reader.Done());
  return version;
}

// Applies one migration that is missing; false where none was.
absl::StatusOr<bool> ApplyNext(SqlSession& session, SqlDialect dialect) {
  RETURN_IF_ERROR(LockSchema(session, dialect));
  ASSIGN_OR_RETURN(const int64_t version, ReadVersion(session, dialect));
  if (version > SchemaVersion()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the store has schema version ", version, " and this program knows up to ",
                     SchemaVersion(), ": run the newer program, or restore an older store"));
  }
  if (version == SchemaVersion()) return false;
  for (const char* statement : kMigrations[version]) {
    RETURN_IF_ERROR(Annotate(ToStatus(session.Run(InDialect(statement, dialect), {})),
                             absl::StrCat("migration ", version + 1)));
  }
  RETURN_IF_ERROR(
      session.Run("INSERT INTO schema_version (version) VALUES ($1)", {SqlValue(version + 1)}));
  return true;
}

}  // namespace

int SchemaVersion() { return kMigrations.size(); }

absl::Status Migrate(SqlDatabase& database) {
  bool more = true;
  while (more) {
    RETURN_IF_ERROR(database.Transact(SqlAccess::kAdmin, [&](SqlSession& session) -> absl::Status {
      ASSIGN_OR_RETURN(more, ApplyNext(session, database.dialect()));
      return absl::OkStatus();
    }));
  }
  return absl::OkStatus();
}

}  // namespace tandem
