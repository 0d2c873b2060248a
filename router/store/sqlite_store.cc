#include "router/store/sqlite_store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status.h"
#include "router/store/file_lock.h"
#include "router/store/schema.h"
#include "router/store/sql_store.h"
#include "router/store/sqlite_connection.h"

namespace tandem {
namespace {

constexpr int64_t kPageBytes = 4096;
constexpr int64_t kApplicationId = 0x54444d31;  // "TDM1", in the file's header

// One connection writes and one reads: with a write-ahead log neither waits for the other.
class SqliteDatabase : public SqlDatabase {
 public:
  SqliteDatabase(std::unique_ptr<FileLock> lock, std::unique_ptr<SqliteConnection> writer,
                 std::unique_ptr<SqliteConnection> reader)
      : lock_(std::move(lock)) {
    writer_.connection = std::move(writer);
    reader_.connection = std::move(reader);
  }
  SqlDialect dialect() const override { return SqlDialect::kSqlite; }

  absl::Status Transact(SqlAccess access,
                        const std::function<absl::Status(SqlSession&)>& body) override {
    const bool reads = access == SqlAccess::kRead;
    Lane& lane = reads ? reader_ : writer_;
    MutexLock lock(&lane.mu);
    SqliteConnection& connection = *lane.connection;
    // A write takes its lock at the start, where waiting for it is still possible.
    RETURN_IF_ERROR(connection.Run(reads ? "BEGIN" : "BEGIN IMMEDIATE", {}));
    absl::Status status = body(connection);
    if (status.ok()) status = ToStatus(connection.Run("COMMIT", {}));
    if (!status.ok()) connection.Rollback();
    return status;
  }

 private:
  struct Lane {
    Mutex mu;
    std::unique_ptr<SqliteConnection> connection ABSL_PT_GUARDED_BY(mu);
  };
  const std::unique_ptr<FileLock> lock_;  // released last
  Lane writer_, reader_;
};

// SQLite would make the file with whatever mode the process's mask leaves.
absl::Status MakePrivateFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return absl::UnavailableError(strerror(errno));
  const int result = fchmod(fd, 0600);
  const int error = errno;
  close(fd);
  return result == 0 ? absl::OkStatus() : absl::UnavailableError(strerror(error));
}

absl::StatusOr<SqlValue> RunPragma(SqliteConnection& connection, absl::string_view pragma) {
  ASSIGN_OR_RETURN(SqlResult result, connection.Run(absl::StrCat("PRAGMA ", pragma), {}));
  if (result.rows.empty() || result.rows[0].empty()) return SqlValue();
  return std::move(result.rows[0][0]);
}

absl::StatusOr<std::unique_ptr<SqliteConnection>> Connect(const SqliteOptions& options) {
  ASSIGN_OR_RETURN(auto connection, SqliteConnection::Open(options.path));
  const int64_t pages = std::clamp<int64_t>(options.bytes_max / kPageBytes, 1, 0xfffffffe);
  const std::string settings[] = {
      absl::StrCat("busy_timeout = ", absl::ToInt64Milliseconds(options.busy_timeout)),
      absl::StrCat("page_size = ", kPageBytes),
      "foreign_keys = ON",
      "trusted_schema = OFF",
      "cell_size_check = ON",
      // With NORMAL a write-ahead log is not synced at a commit: a power loss would take back
      // rows that were acknowledged, and a client would have had its tokens for nothing.
      "synchronous = FULL",
      absl::StrCat("max_page_count = ", pages),
      absl::StrCat("journal_size_limit = ", 64 << 20),
  };
  for (const std::string& setting : settings) RETURN_IF_ERROR(RunPragma(*connection, setting));
  ASSIGN_OR_RETURN(const SqlValue mode, RunPragma(*connection, "journal_mode = WAL"));
  if (mode != SqlValue("wal")) {
    return absl::FailedPreconditionError(
        "the file system can't hold a write-ahead log; put the "
        "store on a local disk");
  }
  return connection;
}

// A file that is new belongs to nobody; one that another program made is left alone.
absl::Status Claim(SqliteConnection& connection) {
  ASSIGN_OR_RETURN(const SqlValue owner, RunPragma(connection, "application_id"));
  if (owner == SqlValue(kApplicationId)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const SqlResult tables,
                   connection.Run("SELECT COUNT(*) FROM sqlite_schema", {}));
  RowReader reader(tables.rows.at(0));
  if (owner != SqlValue(int64_t{0}) || reader.Int() != 0) {
    return absl::FailedPreconditionError("the file is another program's database");
  }
  return ToStatus(RunPragma(connection, absl::StrCat("application_id = ", kApplicationId)));
}

absl::Status CheckFile(SqliteConnection& connection) {
  ASSIGN_OR_RETURN(const SqlValue verdict, RunPragma(connection, "quick_check(1)"));
  if (verdict == SqlValue("ok")) return absl::OkStatus();
  const auto* text = std::get_if<std::string>(&verdict);
  return WithReasonName(
      absl::DataLossError(absl::StrCat("the file is damaged (", text == nullptr ? "?" : *text,
                                       "); restore it from a backup")),
      "STORE_DAMAGED");
}

absl::StatusOr<std::unique_ptr<Store>> OpenFile(const SqliteOptions& options) {
  ASSIGN_OR_RETURN(auto lock, FileLock::Take(absl::StrCat(options.path, ".lock")));
  RETURN_IF_ERROR(MakePrivateFile(options.path));
  ASSIGN_OR_RETURN(auto writer, Connect(options));
  if (options.check) {
    RETURN_IF_ERROR(CheckFile(*writer));
  }
  RETURN_IF_ERROR(Claim(*writer));
  ASSIGN_OR_RETURN(auto reader, Connect(options));
  auto database =
      std::make_unique<SqliteDatabase>(std::move(lock), std::move(writer), std::move(reader));
  RETURN_IF_ERROR(Migrate(*database));
  return MakeSqlStore(std::move(database));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> OpenSqliteStore(const SqliteOptions& options) {
  auto store = OpenFile(options);
  if (!store.ok()) return Annotate(store.status(), absl::StrCat("store ", options.path));
  return store;
}

}  // namespace tandem
