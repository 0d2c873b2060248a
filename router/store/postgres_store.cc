#include "router/store/postgres_store.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "router/store/postgres_connection.h"
#include "router/store/schema.h"
#include "router/store/sql_store.h"

namespace tandem {
namespace {

constexpr absl::Duration kFirstWait = absl::Milliseconds(50);  // doubles with each try

// A connection for each kind of access, so that the ledger waits for nobody's listing.
class PostgresDatabase : public SqlDatabase {
 public:
  explicit PostgresDatabase(PostgresOptions options) : options_(std::move(options)) {}
  SqlDialect dialect() const override { return SqlDialect::kPostgres; }

  absl::Status Transact(SqlAccess access,
                        const std::function<absl::Status(SqlSession&)>& body) override {
    Lane& lane = access == SqlAccess::kRead     ? reader_
                 : access == SqlAccess::kLedger ? ledger_
                                                : admin_;
    MutexLock lock(&lane.mu);
    absl::Status status;
    for (int attempt = 0; attempt < std::max(options_.attempts_max, 1); ++attempt) {
      // The first new try is at once: most connections break while they are idle.
      if (attempt > 1) absl::SleepFor(kFirstWait * (1 << std::min(attempt - 2, 6)));
      if (lane.connection == nullptr) {
        auto opened = PostgresConnection::Open(options_);
        status = ToStatus(opened);
        if (!absl::IsUnavailable(status) && !status.ok()) return status;
        if (!status.ok()) continue;
        lane.connection = *std::move(opened);
      }
      PostgresConnection::Outcome outcome =
          lane.connection->Transact(access == SqlAccess::kRead, body);
      if (lane.connection->broken()) lane.connection = nullptr;
      status = std::move(outcome.status);
      if (!outcome.try_again) return status;
    }
    return status;
  }

 private:
  struct Lane {
    Mutex mu;
    std::unique_ptr<PostgresConnection> connection ABSL_GUARDED_BY(mu);  // null: to be made
  };
  const PostgresOptions options_;
  Lane reader_, admin_, ledger_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> OpenPostgresStore(const PostgresOptions& options) {
  auto database = std::make_unique<PostgresDatabase>(options);
  RETURN_IF_ERROR(Annotate(Migrate(*database), "store on PostgreSQL"));
  return MakeSqlStore(std::move(database));
}

}  // namespace tandem
