#include "base/status.h"
#include "router/store/cursor.h"
#include "router/store/sql_store.h"
#include "router/store/validate.h"

namespace tandem {
namespace {

constexpr char kInsertAudit[] =
    "INSERT INTO audit (sequence, principal, method, request_id, resource, outcome, when_us,"
    " before_json, after_json) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
constexpr char kSelectAudit[] =
    "SELECT sequence, principal, method, request_id, resource, outcome, when_us, before_json,"
    " after_json FROM audit WHERE sequence > $1 ORDER BY sequence LIMIT $2";

absl::StatusOr<AuditEntry> ReadEntry(const SqlRow& row) {
  RowReader reader(row);
  AuditEntry entry;
  entry.sequence = reader.Int();
  entry.principal = reader.Text();
  entry.method = reader.Text();
  entry.request_id = reader.Text();
  entry.resource = reader.Text();
  entry.outcome = reader.Text();
  entry.when = reader.Time();
  entry.before = reader.Text();
  entry.after = reader.Text();
  RETURN_IF_ERROR(Annotate(reader.Done(), "audit"));
  return entry;
}

}  // namespace

absl::Status WriteAudit(SqlSession& session, absl::Span<const AuditEntry> entries) {
  ASSIGN_OR_RETURN(int64_t sequence, LockCounter(session, "audit"));
  for (const AuditEntry& entry : entries) {
    RETURN_IF_ERROR(session.Run(kInsertAudit, {SqlValue(++sequence), entry.principal, entry.method,
                                               entry.request_id, entry.resource, entry.outcome,
                                               SqlTime(entry.when), entry.before, entry.after}));
  }
  return SetCounter(session, "audit", sequence);
}

absl::Status SqlStore::AppendAudit(absl::Span<const AuditEntry> entries) {
  if (entries.size() > kPageSizeMax) {
    return absl::InvalidArgumentError("more than 1000 lines of audit at once");
  }
  for (const AuditEntry& entry : entries) RETURN_IF_ERROR(ValidateAudit(entry));
  return database_->Transact(SqlAccess::kAdmin,
                             [&](SqlSession& session) { return WriteAudit(session, entries); });
}

absl::StatusOr<Page<AuditEntry>> SqlStore::ListAudit(const PageRequest& request) {
  RETURN_IF_ERROR(ValidatePage(request));
  ASSIGN_OR_RETURN(std::vector<SqlValue> values,
                   DecodeCursor("audit", request.cursor, {SqlValue(int64_t{0})}));
  values.emplace_back(int64_t{request.size} + 1);
  SqlResult result;
  RETURN_IF_ERROR(database_->Transact(SqlAccess::kRead, [&](SqlSession& session) -> absl::Status {
    ASSIGN_OR_RETURN(result, session.Run(kSelectAudit, values));
    return absl::OkStatus();
  }));
  Page<AuditEntry> page;
  for (const SqlRow& row : result.rows) {
    if (page.items.size() == request.size) {
      page.next_cursor = EncodeCursor("audit", {SqlValue(page.items.back().sequence)});
      break;
    }
    ASSIGN_OR_RETURN(AuditEntry entry, ReadEntry(row));
    page.items.push_back(std::move(entry));
  }
  return page;
}

absl::StatusOr<std::optional<AdminCall>> ReadAdminCall(SqlSession& session,
                                                       absl::string_view principal,
                                                       absl::string_view request_id) {
  ASSIGN_OR_RETURN(const SqlResult result,
                   session.Run("SELECT request_digest, response, when_us FROM admin_calls"
                               " WHERE principal = $1 AND request_id = $2",
                               {SqlText(principal), SqlText(request_id)}));
  if (result.rows.empty()) return std::nullopt;
  RowReader reader(result.rows[0]);
  AdminCall call{.principal = std::string(principal), .request_id = std::string(request_id)};
  const std::string digest = reader.Bytes();
  call.response = reader.Bytes();
  call.when = reader.Time();
  RETURN_IF_ERROR(Annotate(reader.Done(), "admin_calls"));
  if (digest.size() != call.request_digest.size()) {
    return absl::DataLossError("admin_calls: a digest has the wrong size");
  }
  std::copy(digest.begin(), digest.end(), call.request_digest.begin());
  return call;
}

absl::Status WriteAdminCall(SqlSession& session, const AdminCall& call) {
  const Blob digest{std::string(call.request_digest.begin(), call.request_digest.end())};
  return ToStatus(session.Run(
      "INSERT INTO admin_calls (principal, request_id, request_digest, response, when_us)"
      " VALUES ($1, $2, $3, $4, $5)",
      {call.principal, call.request_id, digest, Blob{call.response}, SqlTime(call.when)}));
}

absl::StatusOr<std::optional<AdminCall>> SqlStore::FindAdminCall(absl::string_view principal,
                                                                 absl::string_view request_id) {
  RETURN_IF_ERROR(ValidateText("principal", principal, kPageSizeMax));
  RETURN_IF_ERROR(ValidateText("request_id", request_id, kPageSizeMax));
  std::optional<AdminCall> call;
  RETURN_IF_ERROR(database_->Transact(SqlAccess::kRead, [&](SqlSession& session) -> absl::Status {
    ASSIGN_OR_RETURN(call, ReadAdminCall(session, principal, request_id));
    return absl::OkStatus();
  }));
  return call;
}

absl::StatusOr<int64_t> SqlStore::ForgetAdminCalls(absl::Time when, int limit) {
  RETURN_IF_ERROR(ValidatePage({.size = limit}));
  int64_t forgotten = 0;
  RETURN_IF_ERROR(database_->Transact(SqlAccess::kAdmin, [&](SqlSession& session) -> absl::Status {
    ASSIGN_OR_RETURN(
        const SqlResult result,
        session.Run("DELETE FROM admin_calls WHERE (principal, request_id) IN (SELECT principal,"
                    " request_id FROM admin_calls WHERE when_us < $1 ORDER BY when_us LIMIT $2)",
                    {SqlTime(when), SqlValue(int64_t{limit})}));
    forgotten = result.changed;
    return absl::OkStatus();
  }));
  return forgotten;
}

}  // namespace tandem
