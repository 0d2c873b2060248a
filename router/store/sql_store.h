#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "router/store/sql.h"
#include "router/store/store.h"

namespace tandem {

// The store over a database that Migrate has brought up to date.
std::unique_ptr<Store> MakeSqlStore(std::unique_ptr<SqlDatabase> database);

// Its class, whose parts lie in a file for each area.
class SqlStore : public Store {
 public:
  explicit SqlStore(std::unique_ptr<SqlDatabase> database) : database_(std::move(database)) {}

  // sql_commit.cc
  absl::StatusOr<Committed> Commit(const ChangeSet& changes) override;

  // sql_store.cc
  absl::StatusOr<int64_t> Revision() override;
  absl::StatusOr<Changes> ChangesSince(int64_t revision, int limit) override;
  absl::StatusOr<Organisation> GetOrganisation(absl::string_view id) override;
  absl::StatusOr<Product> GetProduct(absl::string_view id) override;
  absl::StatusOr<Key> GetKey(absl::string_view id) override;
  absl::StatusOr<LimitRule> GetLimit(absl::string_view id) override;
  absl::StatusOr<Page<Organisation>> ListOrganisations(const PageRequest& page) override;
  absl::StatusOr<Page<Product>> ListProducts(absl::string_view organisation_id,
                                             const PageRequest& page) override;
  absl::StatusOr<Page<Key>> ListKeys(absl::string_view product_id,
                                     const PageRequest& page) override;
  absl::StatusOr<Page<LimitRule>> ListLimits(absl::string_view subject,
                                             const PageRequest& page) override;
  absl::StatusOr<Page<Price>> ListPrices(absl::string_view model, const PageRequest& page) override;
  absl::StatusOr<std::vector<Price>> PricesAt(absl::string_view model, absl::Time when) override;

  // sql_ledger.cc
  absl::StatusOr<LedgerWritten> Append(absl::Span<const LedgerEvent> events) override;
  absl::StatusOr<OrphansClosed> CloseOrphans(const OrphanQuery& query, int limit) override;

  // sql_usage.cc
  absl::StatusOr<UsageRow> GetUsage(absl::string_view charge_id) override;
  absl::StatusOr<Page<UsageRow>> ListUsage(const UsageFilter& filter,
                                           const PageRequest& page) override;
  absl::Status RebuildTotals(UsageDay day) override;
  absl::StatusOr<Page<UsageTotal>> ListTotals(const UsageFilter& filter,
                                              const PageRequest& page) override;

  // sql_audit.cc
  absl::Status AppendAudit(absl::Span<const AuditEntry> entries) override;
  absl::StatusOr<Page<AuditEntry>> ListAudit(const PageRequest& page) override;
  absl::StatusOr<std::optional<AdminCall>> FindAdminCall(absl::string_view principal,
                                                         absl::string_view request_id) override;
  absl::StatusOr<int64_t> ForgetAdminCalls(absl::Time when, int limit) override;

 private:
  const std::unique_ptr<SqlDatabase> database_;
};

// Counters that number what is written. Reading one this way also keeps other writers of it out
// until the transaction ends, so that numbers are committed in their order.
absl::StatusOr<int64_t> LockCounter(SqlSession& session, const std::string& name);
absl::Status SetCounter(SqlSession& session, const std::string& name, int64_t value);

// Writes entries after the last one; requires a transaction of its own kind (kAdmin).
absl::Status WriteAudit(SqlSession& session, absl::Span<const AuditEntry> entries);
absl::StatusOr<std::optional<AdminCall>> ReadAdminCall(SqlSession& session,
                                                       absl::string_view principal,
                                                       absl::string_view request_id);
absl::Status WriteAdminCall(SqlSession& session, const AdminCall& call);

}  // namespace tandem
