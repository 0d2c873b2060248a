#include <array>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "router/store/ledger_rows.h"
#include "router/store/sql_store.h"
#include "router/store/validate.h"

namespace tandem {
namespace {

// Rows that one statement writes: a server is asked once for many, and few statements are prepared.
constexpr std::array<size_t, 3> kChunks = {64, 8, 1};

// Writes those rows whose charge id is not there yet, and counts them.
absl::StatusOr<int64_t> InsertMissing(SqlSession& session, absl::string_view table,
                                      absl::string_view columns, int column_count,
                                      const std::vector<SqlRow>& rows) {
  int64_t written = 0;
  for (size_t next = 0; next < rows.size();) {
    size_t chunk = 1;
    for (const size_t size : kChunks) {
      if (size <= rows.size() - next) {
        chunk = size;
        break;
      }
    }
    SqlRow values;
    values.reserve(chunk * column_count);
    for (size_t i = next; i < next + chunk; ++i) {
      values.insert(values.end(), rows[i].begin(), rows[i].end());
    }
    ASSIGN_OR_RETURN(const SqlResult result,
                     session.Run(absl::StrCat("INSERT INTO ", table, " (", columns, ") VALUES ",
                                              Placeholders(chunk, column_count),
                                              " ON CONFLICT (charge_id) DO NOTHING"),
                                 values));
    written += result.changed;
    next += chunk;
  }
  return written;
}

absl::StatusOr<int64_t> InsertUsage(SqlSession& session, const std::vector<SqlRow>& rows) {
  return InsertMissing(session, "usage", kUsageColumns, kUsageColumnCount, rows);
}

UsageRow Abandoned(const Admission& admission, absl::Time now) {
  UsageRow row;
  row.charge_id = admission.charge_id;
  row.request_id = admission.request_id;
  row.router = admission.router;
  row.party = admission.party;
  row.outcome = UsageOutcome::kAbandoned;
  row.admitted = admission.admitted;
  row.ended = now;
  return row;
}

// Admissions that are over: the last column is the row's charge id where there is a row.
std::string SelectOver() {
  return absl::StrCat("SELECT ", kAdmissionColumns, ", (SELECT u.charge_id FROM usage AS u",
                      " WHERE u.charge_id = admissions.charge_id) AS row_id FROM admissions",
                      " WHERE (router = $1 AND incarnation <> $2) OR admitted_us < $3",
                      " OR EXISTS (SELECT 1 FROM usage AS u",
                      " WHERE u.charge_id = admissions.charge_id)",
                      " ORDER BY admitted_us LIMIT $4");
}

absl::StatusOr<OrphansClosed> CloseIn(SqlSession& session, const OrphanQuery& query, int limit) {
  ASSIGN_OR_RETURN(
      const SqlResult over,
      session.Run(SelectOver(), {SqlText(query.router), static_cast<int64_t>(query.incarnation),
                                 SqlTime(query.admitted_before), int64_t{limit}}));
  std::vector<SqlRow> rows;
  std::vector<std::string> charges;
  for (const SqlRow& row : over.rows) {
    RowReader reader(row);
    const Admission admission = ReadAdmission(reader);
    const bool has_row = !reader.TextOrEmpty().empty();
    RETURN_IF_ERROR(Annotate(reader.Done(), "admissions"));
    charges.push_back(admission.charge_id);
    if (!has_row) rows.push_back(WriteUsage(Abandoned(admission, query.now)));
  }
  OrphansClosed closed;
  ASSIGN_OR_RETURN(closed.abandoned, InsertUsage(session, rows));
  for (const std::string& charge : charges) {
    ASSIGN_OR_RETURN(const SqlResult gone,
                     session.Run("DELETE FROM admissions WHERE charge_id = $1", {charge}));
    closed.forgotten += gone.changed;
  }
  closed.more = over.rows.size() == limit;
  return closed;
}

}  // namespace

UsageDay UsageDayOf(absl::Time time) {
  return static_cast<UsageDay>(absl::ToCivilDay(time, absl::UTCTimeZone()) -
                               absl::CivilDay(1970, 1, 1));
}

absl::StatusOr<LedgerWritten> SqlStore::Append(absl::Span<const LedgerEvent> events) {
  if (events.size() > kLedgerBatchMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(events.size(), " events in a batch, at most ", kLedgerBatchMax));
  }
  std::vector<SqlRow> admissions, rows;
  for (size_t i = 0; i < events.size(); ++i) {
    RETURN_IF_ERROR(Annotate(ValidateLedgerEvent(events[i]), absl::StrCat("events[", i, "]")));
    if (const auto* admission = std::get_if<Admission>(&events[i])) {
      admissions.push_back(WriteAdmission(*admission));
    } else {
      rows.push_back(WriteUsage(std::get<UsageRow>(events[i])));
    }
  }
  LedgerWritten written;
  if (events.empty()) return written;
  RETURN_IF_ERROR(database_->Transact(SqlAccess::kLedger, [&](SqlSession& session) -> absl::Status {
    ASSIGN_OR_RETURN(written.admissions, InsertMissing(session, "admissions", kAdmissionColumns,
                                                       kAdmissionColumnCount, admissions));
    ASSIGN_OR_RETURN(written.rows, InsertUsage(session, rows));
    return absl::OkStatus();
  }));
  return written;
}

absl::StatusOr<OrphansClosed> SqlStore::CloseOrphans(const OrphanQuery& query, int limit) {
  RETURN_IF_ERROR(ValidatePage({.size = limit}));
  RETURN_IF_ERROR(ValidateText("router", query.router, kPageSizeMax));
  OrphansClosed closed;
  RETURN_IF_ERROR(database_->Transact(SqlAccess::kAdmin, [&](SqlSession& session) -> absl::Status {
    ASSIGN_OR_RETURN(closed, CloseIn(session, query, limit));
    return absl::OkStatus();
  }));
  return closed;
}

}  // namespace tandem
