#pragma once
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "router/store/cursor.h"
#include "router/store/record_tables.h"
#include "router/store/validate.h"

// The statements that every kind of record shares, made from its RecordTable.
namespace tandem {

template <typename T>
std::string SelectRecords() {
  return absl::StrCat("SELECT ", absl::StrJoin(RecordTable<T>::kColumns, ", "), ", revision FROM ",
                      RecordTable<T>::kName);
}

template <typename T>
absl::StatusOr<std::vector<T>> ReadRecords(const absl::StatusOr<SqlResult>& result) {
  RETURN_IF_ERROR(result);
  std::vector<T> records;
  records.reserve(result->rows.size());
  for (const SqlRow& row : result->rows) {
    RowReader reader(row);
    T record = RecordTable<T>::Read(reader);
    record.revision = reader.Int();
    RETURN_IF_ERROR(Annotate(reader.Done(), RecordTable<T>::kName));
    records.push_back(std::move(record));
  }
  return records;
}

template <typename T>
absl::StatusOr<std::optional<T>> FindRecord(SqlSession& session, absl::string_view id) {
  static const std::string sql = absl::StrCat(SelectRecords<T>(), " WHERE id = $1");
  ASSIGN_OR_RETURN(std::vector<T> found, ReadRecords<T>(session.Run(sql, {SqlText(id)})));
  if (found.empty()) return std::nullopt;
  return std::move(found[0]);
}

// NotFound says which kind of record there is none of; an id is no secret.
template <typename T>
absl::StatusOr<T> GetRecord(SqlDatabase& database, absl::string_view id) {
  RETURN_IF_ERROR(ValidateText(RecordTable<T>::kNoun, id, kPageSizeMax));
  std::optional<T> found;
  RETURN_IF_ERROR(database.Transact(SqlAccess::kRead, [&](SqlSession& session) -> absl::Status {
    ASSIGN_OR_RETURN(found, FindRecord<T>(session, id));
    return absl::OkStatus();
  }));
  if (found) return *std::move(found);
  return absl::NotFoundError(absl::StrCat("there is no ", RecordTable<T>::kNoun, " '", id, "'"));
}

template <typename T>
absl::StatusOr<Page<T>> ListRecords(SqlDatabase& database, absl::string_view parent,
                                    const PageRequest& request) {
  RETURN_IF_ERROR(ValidatePage(request));
  RETURN_IF_ERROR(ValidateText(RecordTable<T>::kParent, parent, kPageSizeMax));
  ASSIGN_OR_RETURN(std::vector<SqlValue> values,
                   DecodeCursor(RecordTable<T>::kName, request.cursor, {SqlText("")}));
  values.emplace_back(int64_t{request.size} + 1);
  std::string narrowed;
  if (!parent.empty()) {
    narrowed = absl::StrCat(" AND ", RecordTable<T>::kParent, " = $3");
    values.push_back(SqlText(parent));
  }
  const std::string sql =
      absl::StrCat(SelectRecords<T>(), " WHERE id > $1", narrowed, " ORDER BY id LIMIT $2");
  Page<T> page;
  RETURN_IF_ERROR(database.Transact(SqlAccess::kRead, [&](SqlSession& session) -> absl::Status {
    ASSIGN_OR_RETURN(page.items, ReadRecords<T>(session.Run(sql, values)));
    return absl::OkStatus();
  }));
  if (page.items.size() > request.size) {
    page.items.pop_back();
    page.next_cursor = EncodeCursor(RecordTable<T>::kName, {SqlText(page.items.back().id)});
  }
  return page;
}

template <typename T>
absl::StatusOr<std::vector<T>> ChangedRecords(SqlSession& session, int64_t after, int64_t limit) {
  static const std::string sql =
      absl::StrCat(SelectRecords<T>(), " WHERE revision > $1 ORDER BY revision LIMIT $2");
  return ReadRecords<T>(session.Run(sql, {after, limit}));
}

template <typename T>
absl::Status WriteRecord(SqlSession& session, const T& record, int64_t revision) {
  using Table = RecordTable<T>;
  static const std::string sql =
      absl::StrCat("INSERT INTO ", Table::kName, " (", absl::StrJoin(Table::kColumns, ", "),
                   ", revision) VALUES ", Placeholders(1, std::size(Table::kColumns) + 1),
                   " ON CONFLICT (id) DO UPDATE SET ",
                   absl::StrJoin(Table::kColumns, ", ",
                                 [](std::string* out, absl::string_view column) {
                                   absl::StrAppend(out, column, " = excluded.", column);
                                 }),
                   ", revision = excluded.revision");
  SqlRow values = Table::Write(record);
  values.push_back(revision);
  return ToStatus(session.Run(sql, values));
}

}  // namespace tandem
