#pragma once
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "router/store/sql.h"

struct sqlite3;
struct sqlite3_stmt;

namespace tandem {

// One connection to a SQLite file, with its prepared statements.
//   errors  ResourceExhausted the disk, or the file's allowance, is full; Unavailable busy,
//           read-only, or an input/output error; DataLoss the file is damaged or no database;
//           Internal a statement that is wrong, or breaks a constraint
//   threads one at a time
class SqliteConnection : public SqlSession {
 public:
  // The file must exist.
  static absl::StatusOr<std::unique_ptr<SqliteConnection>> Open(const std::string& path);
  absl::StatusOr<SqlResult> Run(const std::string& sql, absl::Span<const SqlValue> values) override;
  // Takes the transaction back, if one is open: an error may have ended it already.
  void Rollback();

 private:
  struct CloseDatabase {
    void operator()(sqlite3* database) const;
  };
  struct FinalizeStatement {
    void operator()(sqlite3_stmt* statement) const;
  };
  using Statement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

  SqliteConnection() = default;
  absl::StatusOr<sqlite3_stmt*> Prepare(const std::string& sql);
  absl::Status Bind(sqlite3_stmt* statement, absl::Span<const SqlValue> values);
  absl::StatusOr<SqlResult> Step(sqlite3_stmt* statement);
  absl::Status Error(int code);

  std::unique_ptr<sqlite3, CloseDatabase> database_;  // outlives the statements
  absl::flat_hash_map<std::string, Statement> statements_;
};

}  // namespace tandem
