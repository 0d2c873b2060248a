#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

// The little that Tandem asks of a database, so that one set of statements serves two of them.
// Parameters are written $1, $2, ...; text compares by its bytes.
namespace tandem {

struct Blob {
  std::string bytes;
  friend bool operator==(const Blob&, const Blob&) = default;
};
using SqlValue = std::variant<std::monostate, int64_t, std::string, Blob>;  // monostate: NULL
using SqlRow = std::vector<SqlValue>;

struct SqlResult {
  std::vector<SqlRow> rows;
  int64_t changed = 0;  // rows that were written
};

// One open transaction.
//   errors  those of Store, of the database's own making; after one, nothing but the end helps
//   threads one at a time
class SqlSession {
 public:
  virtual ~SqlSession() = default;
  // Statements are prepared once and kept by their text, so text must not have values in it.
  virtual absl::StatusOr<SqlResult> Run(const std::string& sql,
                                        absl::Span<const SqlValue> values) = 0;
};

enum class SqlDialect { kSqlite, kPostgres };

// What a transaction is for: each kind waits for its own where the database can, so that a listing
// does not hold the ledger up.
enum class SqlAccess { kRead, kAdmin, kLedger };

//   threads any
class SqlDatabase {
 public:
  virtual ~SqlDatabase() = default;
  virtual SqlDialect dialect() const = 0;
  // Runs `body` in a transaction, which is committed if it returns OK and rolled back otherwise.
  // `body` may run more than once, where a transaction lost against another or its connection
  // broke: it must start from nothing, and find out for itself what an earlier run, whose commit
  // was not confirmed, has done.
  virtual absl::Status Transact(SqlAccess access,
                                const std::function<absl::Status(SqlSession&)>& body) = 0;
};

// Reads a row's columns in order. A column of another type is remembered as an error and reads as
// its type's zero, so that one look at the end is enough.
class RowReader {
 public:
  explicit RowReader(const SqlRow& row) : row_(row) {}
  int64_t Int();
  std::string Text();
  std::string Bytes();
  std::optional<int64_t> MaybeInt();
  std::string TextOrEmpty();  // NULL reads as empty
  std::optional<std::string> MaybeBytes();
  absl::Time Time() { return absl::FromUnixMicros(Int()); }
  std::optional<absl::Time> MaybeTime();
  // DataLoss: too few columns, columns left, or one of a wrong type.
  absl::Status Done() const;

 private:
  template <typename T>
  std::optional<T> Next(bool null_is_good);

  const SqlRow& row_;
  size_t next_ = 0;
  bool good_ = true;
};

// Values for rows; an empty text of a column that refers to another table is NULL.
SqlValue SqlTime(absl::Time time);
SqlValue SqlTime(const std::optional<absl::Time>& time);
SqlValue SqlTextOrNull(const std::string& text);
SqlValue SqlText(absl::string_view text);

// "($1, $2), ($3, $4)" for two rows of two columns.
std::string Placeholders(int rows, int columns);

}  // namespace tandem
