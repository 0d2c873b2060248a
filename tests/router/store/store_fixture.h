#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "router/store/postgres_store.h"
#include "router/store/sqlite_store.h"
#include "tests/router/store/postgres_server.h"
#include "tests/router/store/store_records.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/status_matchers.h"

namespace tandem {

enum class StoreKind { kSqlite, kPostgres };

// What every store promises is tested on each of them, on one that is empty.
class StoreTest : public testing::TestWithParam<StoreKind> {
 protected:
  void SetUp() override {
    if (GetParam() == StoreKind::kSqlite) {
      ASSERT_OK_AND_ASSIGN(store_, OpenSqliteStore({.path = folder_.path() + "/store.db"}));
      return;
    }
    const absl::StatusOr<PostgresServer*> server = PostgresServer::Shared();
    if (absl::IsNotFound(server.status())) GTEST_SKIP() << server.status();
    ASSERT_THAT(server, IsOk());
    ASSERT_OK_AND_ASSIGN(store_, OpenPostgresStore({.connection = (*server)->NewSchema()}));
  }
  // Organisation acme, its product acme-chat and that one's key k1.
  void AddAcme() {
    ASSERT_THAT(store_->Commit(
                    TestChange("acme", {TestOrganisation("acme"), TestProduct("acme-chat", "acme"),
                                        TestKey("k1", "acme-chat")})),
                IsOk());
  }

  ScratchFolder folder_;
  std::unique_ptr<Store> store_;
};

inline std::string StoreName(const testing::TestParamInfo<StoreKind>& kind) {
  return kind.param == StoreKind::kSqlite ? "Sqlite" : "Postgres";
}

inline auto EveryStore() { return testing::Values(StoreKind::kSqlite, StoreKind::kPostgres); }

}  // namespace tandem
