#include "router/store/sql_store.h"

#include <algorithm>

#include "router/store/sql_records.h"

namespace tandem {
namespace {

absl::StatusOr<int64_t> OneNumber(const absl::StatusOr<SqlResult>& result) {
  RETURN_IF_ERROR(result);
  if (result->rows.size() != 1) return absl::DataLossError("a counter of the store is missing");
  RowReader reader(result->rows[0]);
  const int64_t value = reader.Int();
  RETURN_IF_ERROR(reader.Done());
  return value;
}

int64_t RevisionOf(const Record& record) {
  return std::visit([](const auto& value) { return value.revision; }, record);
}

template <typename T>
absl::Status AddChanged(SqlSession& session, int64_t after, int64_t limit,
                        std::vector<Record>& records) {
  ASSIGN_OR_RETURN(std::vector<T> changed, ChangedRecords<T>(session, after, limit));
  std::move(changed.begin(), changed.end(), std::back_inserter(records));
  return absl::OkStatus();
}

}  // namespace

std::unique_ptr<Store> MakeSqlStore(std::unique_ptr<SqlDatabase> database) {
  return std::make_unique<SqlStore>(std::move(database));
}

absl::StatusOr<int64_t> LockCounter(SqlSession& session, const std::string& name) {
  return OneNumber(session.Run("UPDATE counters SET value = value WHERE name = $1 RETURNING value",
                               {SqlValue(name)}));
}

absl::Status SetCounter(SqlSession& session, const std::string& name, int64_t value) {
  return ToStatus(session.Run("UPDATE counters SET value = $1 WHERE name = $2",
                              {SqlValue(value), SqlValue(name)}));
}

absl::StatusOr<int64_t> SqlStore::Revision() {
  int64_t revision = 0;
  RETURN_IF_ERROR(database_->Transact(SqlAccess::kRead, [&](SqlSession& session) -> absl::Status {
    ASSIGN_OR_RETURN(revision, OneNumber(session.Run("SELECT value FROM counters WHERE name = $1",
                                                     {SqlText("revision")})));
    return absl::OkStatus();
  }));
  return revision;
}

absl::StatusOr<Changes> SqlStore::ChangesSince(int64_t revision, int limit) {
  RETURN_IF_ERROR(ValidatePage({.size = limit}));
  Changes changes;
  RETURN_IF_ERROR(database_->Transact(SqlAccess::kRead, [&](SqlSession& session) -> absl::Status {
    changes = Changes();
    ASSIGN_OR_RETURN(changes.revision,
                     OneNumber(session.Run("SELECT value FROM counters WHERE name = $1",
                                           {SqlText("revision")})));
    const int64_t most = int64_t{limit} + 1;  // one more tells whether there are more
    RETURN_IF_ERROR(AddChanged<Organisation>(session, revision, most, changes.records));
    RETURN_IF_ERROR(AddChanged<Product>(session, revision, most, changes.records));
    RETURN_IF_ERROR(AddChanged<Key>(session, revision, most, changes.records));
    RETURN_IF_ERROR(AddChanged<LimitRule>(session, revision, most, changes.records));
    return AddChanged<Price>(session, revision, most, changes.records);
  }));
  std::vector<Record>& records = changes.records;
  std::sort(records.begin(), records.end(),
            [](const Record& a, const Record& b) { return RevisionOf(a) < RevisionOf(b); });
  if (records.size() > limit) {
    records.resize(limit);
    changes.more = true;
    changes.revision = RevisionOf(records.back());
  }
  return changes;
}

absl::StatusOr<Organisation> SqlStore::GetOrganisation(absl::string_view id) {
  return GetRecord<Organisation>(*database_, id);
}

absl::StatusOr<Product> SqlStore::GetProduct(absl::string_view id) {
  return GetRecord<Product>(*database_, id);
}

absl::StatusOr<Key> SqlStore::GetKey(absl::string_view id) {
  return GetRecord<Key>(*database_, id);
}

absl::StatusOr<LimitRule> SqlStore::GetLimit(absl::string_view id) {
  return GetRecord<LimitRule>(*database_, id);
}

absl::StatusOr<Page<Organisation>> SqlStore::ListOrganisations(const PageRequest& page) {
  return ListRecords<Organisation>(*database_, "", page);
}

absl::StatusOr<Page<Product>> SqlStore::ListProducts(absl::string_view organisation_id,
                                                     const PageRequest& page) {
  return ListRecords<Product>(*database_, organisation_id, page);
}

absl::StatusOr<Page<Key>> SqlStore::ListKeys(absl::string_view product_id,
                                             const PageRequest& page) {
  return ListRecords<Key>(*database_, product_id, page);
}

absl::StatusOr<Page<LimitRule>> SqlStore::ListLimits(absl::string_view subject,
                                                     const PageRequest& page) {
  return ListRecords<LimitRule>(*database_, subject, page);
}

absl::StatusOr<Page<Price>> SqlStore::ListPrices(absl::string_view model, const PageRequest& page) {
  return ListRecords<Price>(*database_, model, page);
}

absl::StatusOr<std::vector<Price>> SqlStore::PricesAt(absl::string_view model, absl::Time when) {
  RETURN_IF_ERROR(ValidateText("model", model, kPageSizeMax));
  static const std::string sql = absl::StrCat(
      SelectRecords<Price>(),
      " WHERE id IN (SELECT id FROM (SELECT id, ROW_NUMBER() OVER (PARTITION BY kind"
      " ORDER BY effective_us DESC, revision DESC) AS place FROM prices"
      " WHERE model = $1 AND effective_us <= $2) AS ranked WHERE place = 1) ORDER BY kind");
  std::vector<Price> prices;
  RETURN_IF_ERROR(database_->Transact(SqlAccess::kRead, [&](SqlSession& session) -> absl::Status {
    ASSIGN_OR_RETURN(prices, ReadRecords<Price>(session.Run(sql, {SqlText(model), SqlTime(when)})));
    return absl::OkStatus();
  }));
  return prices;
}

}  // namespace tandem
