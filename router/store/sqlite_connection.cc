#include "router/store/sqlite_connection.h"

#include <errno.h>
#include <sqlite3.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/status.h"

namespace tandem {
namespace {

constexpr size_t kStatementsMax = 256;  // more than the store has: migrations add theirs

SqlValue ColumnValue(sqlite3_stmt* statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER:
      return static_cast<int64_t>(sqlite3_column_int64(statement, column));
    case SQLITE_TEXT: {
      const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
      return std::string(text, sqlite3_column_bytes(statement, column));
    }
    case SQLITE_BLOB: {
      const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement, column));
      return Blob{
          std::string(bytes == nullptr ? "" : bytes, sqlite3_column_bytes(statement, column))};
    }
    default:
      return SqlValue();
  }
}

int LastErrno(sqlite3* database, int which_file) {
  sqlite3_file* file = nullptr;
  int error = 0;
  if (sqlite3_file_control(database, "main", which_file, &file) != SQLITE_OK || file == nullptr ||
      file->pMethods == nullptr) {
    return 0;
  }
  file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &error);
  return error;
}

// SQLite knows one kind of full disk; quotas and a process's own limit on files look like damage.
bool OutOfSpace(sqlite3* database, int primary) {
  if (primary == SQLITE_FULL) return true;
  if (primary != SQLITE_IOERR) return false;
  for (const int which_file : {SQLITE_FCNTL_FILE_POINTER, SQLITE_FCNTL_JOURNAL_POINTER}) {
    const int error = LastErrno(database, which_file);
    if (error == ENOSPC || error == EDQUOT || error == EFBIG) return true;
  }
  return false;
}

}  // namespace

void SqliteConnection::CloseDatabase::operator()(sqlite3* database) const {
  sqlite3_close_v2(database);
}

void SqliteConnection::FinalizeStatement::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

absl::StatusOr<std::unique_ptr<SqliteConnection>> SqliteConnection::Open(const std::string& path) {
  auto connection = std::unique_ptr<SqliteConnection>(new SqliteConnection());
  sqlite3* database = nullptr;
  // The callers hold a lock of their own for each connection.
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW;
  const int code = sqlite3_open_v2(path.c_str(), &database, flags, nullptr);
  connection->database_.reset(database);
  if (database == nullptr) return absl::ResourceExhaustedError("no memory to open the store");
  sqlite3_extended_result_codes(database, 1);
  if (code != SQLITE_OK) return connection->Error(code);
  return connection;
}

absl::Status SqliteConnection::Error(int code) {
  const int primary = code & 0xff;
  const std::string message = absl::StrCat("SQLite: ", sqlite3_errmsg(database_.get()));
  if (OutOfSpace(database_.get(), primary)) {
    return WithReasonName(
        absl::ResourceExhaustedError(absl::StrCat(message, "; free some space for the store")),
        "STORE_FULL");
  }
  switch (primary) {
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
      return WithReasonName(absl::UnavailableError(message), "STORE_READ_ONLY");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_IOERR:
      return WithReasonName(absl::UnavailableError(message), "STORE_UNAVAILABLE");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return WithReasonName(
          absl::DataLossError(absl::StrCat(message, "; restore the store from a backup")),
          "STORE_DAMAGED");
    case SQLITE_NOMEM:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::StatusOr<sqlite3_stmt*> SqliteConnection::Prepare(const std::string& sql) {
  const auto found = statements_.find(sql);
  if (found != statements_.end()) return found->second.get();
  if (statements_.size() >= kStatementsMax) statements_.clear();
  const std::string numbered = absl::StrReplaceAll(sql, {{"$", "?"}});
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(database_.get(), numbered.c_str(), numbered.size() + 1,
                                      SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) return Error(code);
  statements_.emplace(sql, Statement(statement));
  return statement;
}

absl::Status SqliteConnection::Bind(sqlite3_stmt* statement, absl::Span<const SqlValue> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    const int index = static_cast<int>(i) + 1;
    int code = SQLITE_OK;
    // Bytes are bound where they are: they outlive the step, and Run unbinds them after it.
    if (const auto* number = std::get_if<int64_t>(&values[i])) {
      code = sqlite3_bind_int64(statement, index, *number);
    } else if (const auto* text = std::get_if<std::string>(&values[i])) {
      code = sqlite3_bind_text64(statement, index, text->data(), text->size(), SQLITE_STATIC,
                                 SQLITE_UTF8);
    } else if (const auto* blob = std::get_if<Blob>(&values[i])) {
      code = sqlite3_bind_blob64(statement, index, blob->bytes.data(), blob->bytes.size(),
                                 SQLITE_STATIC);
    } else {
      code = sqlite3_bind_null(statement, index);
    }
    if (code != SQLITE_OK) return Error(code);
  }
  return absl::OkStatus();
}

absl::StatusOr<SqlResult> SqliteConnection::Step(sqlite3_stmt* statement) {
  SqlResult result;
  const int64_t before = sqlite3_total_changes64(database_.get());
  int code = sqlite3_step(statement);
  for (; code == SQLITE_ROW; code = sqlite3_step(statement)) {
    SqlRow row;
    const int columns = sqlite3_column_count(statement);
    row.reserve(columns);
    for (int column = 0; column < columns; ++column) row.push_back(ColumnValue(statement, column));
    result.rows.push_back(std::move(row));
  }
  if (code != SQLITE_DONE) return Error(code);
  result.changed = sqlite3_total_changes64(database_.get()) - before;
  return result;
}

absl::StatusOr<SqlResult> SqliteConnection::Run(const std::string& sql,
                                                absl::Span<const SqlValue> values) {
  ASSIGN_OR_RETURN(sqlite3_stmt* const statement, Prepare(sql));
  absl::Status bound = Bind(statement, values);
  absl::StatusOr<SqlResult> result = bound.ok() ? Step(statement) : bound;
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
  return result;
}

void SqliteConnection::Rollback() {
  if (sqlite3_get_autocommit(database_.get()) == 0) Run("ROLLBACK", {}).IgnoreError();
}

}  // namespace tandem
