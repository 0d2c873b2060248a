#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "router/store/cursor.h"
#include "router/store/ledger_rows.h"
#include "router/store/sql_store.h"
#include "router/store/validate.h"

namespace tandem {
namespace {

int64_t DayStartMicros(UsageDay day) {
  return absl::ToUnixMicros(absl::UnixEpoch() + 24 * absl::Hours(static_cast<int64_t>(day)));
}

// One SELECT, whose conditions and values are added side by side.
class Query {
 public:
  // `position` > the cursor's values, as rows.
  Query(absl::string_view select, absl::string_view position, std::vector<SqlValue> after)
      : sql_(absl::StrCat(select, " WHERE (", position, ") > ", Placeholders(1, after.size()))),
        values_(std::move(after)) {}
  void And(absl::string_view comparison, SqlValue value) {
    values_.push_back(std::move(value));
    absl::StrAppend(&sql_, " AND ", comparison, " $", values_.size());
  }
  absl::StatusOr<SqlResult> Run(SqlDatabase& database, absl::string_view order, int64_t limit) {
    values_.emplace_back(limit);
    absl::StrAppend(&sql_, " ORDER BY ", order, " LIMIT $", values_.size());
    SqlResult result;
    RETURN_IF_ERROR(database.Transact(SqlAccess::kRead, [&](SqlSession& session) -> absl::Status {
      ASSIGN_OR_RETURN(result, session.Run(sql_, values_));
      return absl::OkStatus();
    }));
    return result;
  }

 private:
  std::string sql_;
  std::vector<SqlValue> values_;
};

absl::Status CheckFilter(const UsageFilter& filter, const PageRequest& request) {
  RETURN_IF_ERROR(ValidatePage(request));
  RETURN_IF_ERROR(ValidateText("filter.product_id", filter.product_id, kPageSizeMax));
  return ValidateText("filter.model", filter.model, kPageSizeMax);
}

void AndParty(Query& query, const UsageFilter& filter) {
  if (!filter.product_id.empty()) query.And("product_id =", filter.product_id);
  if (!filter.model.empty()) query.And("model =", filter.model);
}

}  // namespace

absl::StatusOr<UsageRow> SqlStore::GetUsage(absl::string_view charge_id) {
  RETURN_IF_ERROR(ValidateText("charge_id", charge_id, kPageSizeMax));
  SqlResult result;
  RETURN_IF_ERROR(database_->Transact(SqlAccess::kRead, [&](SqlSession& session) -> absl::Status {
    ASSIGN_OR_RETURN(result, session.Run(absl::StrCat("SELECT ", kUsageColumns,
                                                      " FROM usage WHERE charge_id = $1"),
                                         {SqlText(charge_id)}));
    return absl::OkStatus();
  }));
  if (result.rows.empty()) {
    return absl::NotFoundError(absl::StrCat("the ledger has no row '", charge_id, "'"));
  }
  return ReadUsage(result.rows[0]);
}

absl::StatusOr<Page<UsageRow>> SqlStore::ListUsage(const UsageFilter& filter,
                                                   const PageRequest& request) {
  RETURN_IF_ERROR(CheckFilter(filter, request));
  ASSIGN_OR_RETURN(std::vector<SqlValue> after,
                   DecodeCursor("usage", request.cursor, {SqlValue(int64_t{-1}), SqlText("")}));
  Query query(absl::StrCat("SELECT ", kUsageColumns, " FROM usage"), "ended_us, charge_id",
              std::move(after));
  if (filter.first_day) query.And("ended_us >=", DayStartMicros(*filter.first_day));
  if (filter.last_day) {
    const auto next = static_cast<UsageDay>(static_cast<int64_t>(*filter.last_day) + 1);
    query.And("ended_us <", DayStartMicros(next));
  }
  AndParty(query, filter);
  ASSIGN_OR_RETURN(const SqlResult result,
                   query.Run(*database_, "ended_us, charge_id", int64_t{request.size} + 1));
  Page<UsageRow> page;
  for (const SqlRow& row : result.rows) {
    if (page.items.size() == request.size) {
      const UsageRow& last = page.items.back();
      page.next_cursor = EncodeCursor("usage", {SqlTime(last.ended), last.charge_id});
      break;
    }
    ASSIGN_OR_RETURN(UsageRow usage, ReadUsage(row));
    page.items.push_back(std::move(usage));
  }
  return page;
}

absl::Status SqlStore::RebuildTotals(UsageDay day) {
  const auto number = static_cast<int64_t>(day);
  const auto next = static_cast<UsageDay>(number + 1);
  const std::string insert = absl::StrCat(
      "INSERT INTO usage_totals (", kTotalColumns,
      ") SELECT CAST($1 AS BIGINT), product_id, model, currency, COUNT(*),"
      " CAST(SUM(prompt_tokens) AS BIGINT), CAST(SUM(cached_tokens) AS BIGINT),"
      " CAST(SUM(output_tokens) AS BIGINT), CAST(SUM(reasoning_tokens) AS BIGINT),"
      " CAST(SUM(amount_nano) AS BIGINT) FROM usage WHERE ended_us >= $2 AND ended_us < $3"
      " GROUP BY product_id, model, currency");
  return database_->Transact(SqlAccess::kAdmin, [&](SqlSession& session) -> absl::Status {
    // Two routers at once would otherwise both find nothing to replace.
    RETURN_IF_ERROR(LockCounter(session, "totals"));
    RETURN_IF_ERROR(session.Run("DELETE FROM usage_totals WHERE day = $1", {SqlValue(number)}));
    return ToStatus(
        session.Run(insert, {SqlValue(number), DayStartMicros(day), DayStartMicros(next)}));
  });
}

absl::StatusOr<Page<UsageTotal>> SqlStore::ListTotals(const UsageFilter& filter,
                                                      const PageRequest& request) {
  RETURN_IF_ERROR(CheckFilter(filter, request));
  constexpr absl::string_view order = "day, product_id, model, currency";
  ASSIGN_OR_RETURN(std::vector<SqlValue> after,
                   DecodeCursor("totals", request.cursor,
                                {SqlValue(int64_t{-1}), SqlText(""), SqlText(""), SqlText("")}));
  Query query(absl::StrCat("SELECT ", kTotalColumns, " FROM usage_totals"), order,
              std::move(after));
  if (filter.first_day) query.And("day >=", static_cast<int64_t>(*filter.first_day));
  if (filter.last_day) query.And("day <=", static_cast<int64_t>(*filter.last_day));
  AndParty(query, filter);
  ASSIGN_OR_RETURN(const SqlResult result, query.Run(*database_, order, int64_t{request.size} + 1));
  Page<UsageTotal> page;
  for (const SqlRow& row : result.rows) {
    if (page.items.size() == request.size) {
      const UsageTotal& last = page.items.back();
      page.next_cursor = EncodeCursor(
          "totals", {static_cast<int64_t>(last.day), last.product_id, last.model, last.currency});
      break;
    }
    ASSIGN_OR_RETURN(UsageTotal total, ReadTotal(row));
    page.items.push_back(std::move(total));
  }
  return page;
}

}  // namespace tandem
