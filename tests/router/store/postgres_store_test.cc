#include "router/store/postgres_store.h"

#include <atomic>
#include <pqxx/pqxx>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/router/store/postgres_server.h"
#include "tests/router/store/store_fixture.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

class PostgresStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    const absl::StatusOr<PostgresServer*> server = PostgresServer::Shared();
    if (absl::IsNotFound(server.status())) GTEST_SKIP() << server.status();
    ASSERT_THAT(server, IsOk());
    server_ = *server;
    schema_ = server_->NewSchema();
  }
  absl::StatusOr<std::unique_ptr<Store>> Open() {
    return OpenPostgresStore({.connection = schema_});
  }
  // One number that the server answers with.
  int64_t Ask(const std::string& sql) {
    pqxx::connection connection(schema_);
    return pqxx::nontransaction(connection).exec1(sql)[0].as<int64_t>();
  }
  // Statements that are committed together.
  void Execute(const std::string& sql) {
    pqxx::connection connection(schema_);
    pqxx::work work(connection);
    work.exec(sql);
    work.commit();
  }
  // Returns when a store waits for a lock that somebody else holds; false if none does in time.
  bool StoreWaits() {
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (Ask("SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'tandem-router'"
               " AND wait_event_type = 'Lock'") == 0) {
      if (absl::Now() > deadline) return false;
    }
    return true;
  }
  int64_t KillConnections(const std::string& which) {
    return Ask(
        "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name = 'tandem-router' AND " +
        which);
  }

  PostgresServer* server_ = nullptr;
  std::string schema_;
};

constexpr char kHoldRevision[] = "UPDATE counters SET value = value WHERE name = 'revision'";

TEST_F(PostgresStoreTest, AConnectionThatIsKilledInATransactionCostsNothing) {
  ASSERT_OK_AND_ASSIGN(const auto store, Open());
  absl::StatusOr<Committed> committed = absl::UnknownError("not run");
  {
    pqxx::connection other(schema_);
    pqxx::work holder(other);
    holder.exec(kHoldRevision);
    std::thread caller(
        [&] { committed = store->Commit(TestChange("r", {TestOrganisation("acme")})); });
    EXPECT_TRUE(StoreWaits());
    EXPECT_EQ(KillConnections("wait_event_type = 'Lock'"), 1);
    holder.abort();
    caller.join();
  }
  ASSERT_THAT(committed, IsOk());
  EXPECT_EQ(committed->revision, 1);
  EXPECT_THAT(store->GetOrganisation("acme"), IsOk());
  ASSERT_OK_AND_ASSIGN(const Page<AuditEntry> audit, store->ListAudit({}));
  EXPECT_EQ(audit.items.size(), 1);
}

TEST_F(PostgresStoreTest, ConnectionsThatBrokeWhileIdleAreMadeAgain) {
  ASSERT_OK_AND_ASSIGN(const auto store, Open());
  for (int round = 0; round < 2; ++round) {
    const std::string id = absl::StrCat("c", round);
    ASSERT_THAT(store->Append({TestUsage(id)}), IsOk());
    ASSERT_THAT(store->GetUsage(id), IsOk());
    ASSERT_THAT(store->RebuildTotals(UsageDayOf(TestTime())), IsOk());
    EXPECT_GE(KillConnections("true"), 3);  // an earlier store's may still be ending
  }
  EXPECT_THAT(store->GetUsage("c1"), IsOk());
}

TEST_F(PostgresStoreTest, ATransactionThatLostAgainstAnotherIsTriedAgainSomeTimes) {
  ASSERT_OK_AND_ASSIGN(const auto store,
                       OpenPostgresStore({.connection = schema_, .attempts_max = 3}));
  // Rolling back does not take back what a sequence has given out, so it counts the tries.
  Execute(
      "CREATE SEQUENCE tries; CREATE TABLE losses (most BIGINT); INSERT INTO losses VALUES (2);"
      " CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS"
      " 'BEGIN IF nextval(''tries'') <= (SELECT most FROM losses) THEN"
      " RAISE serialization_failure; END IF; RETURN NEW; END';"
      " CREATE TRIGGER lose BEFORE INSERT ON usage FOR EACH ROW EXECUTE FUNCTION lose()");
  ASSERT_OK_AND_ASSIGN(const LedgerWritten written, store->Append({TestUsage("c1")}));
  EXPECT_EQ(written.rows, 1);
  EXPECT_EQ(Ask("SELECT last_value FROM tries"), 3);

  Execute("UPDATE losses SET most = 1000000");
  EXPECT_THAT(store->Append({TestUsage("c2")}), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(Ask("SELECT last_value FROM tries"), 6);
  EXPECT_EQ(Ask("SELECT COUNT(*) FROM usage"), 1);
}

TEST_F(PostgresStoreTest, AServerThatDoesNotAnswerIsATypedErrorInTime) {
  ASSERT_OK_AND_ASSIGN(
      const auto store,
      OpenPostgresStore({.connection = schema_, .statement_timeout = absl::Seconds(2)}));
  const ChangeSet change = TestChange("r", {TestOrganisation("acme")});
  {
    pqxx::connection other(schema_);
    pqxx::work holder(other);
    holder.exec(kHoldRevision);
    EXPECT_THAT(store->Commit(change),
                StatusIs(absl::StatusCode::kUnavailable, HasSubstr("timeout")));
    // Neither the ledger nor readers wait for it.
    EXPECT_THAT(store->Append({TestUsage("c1")}), IsOk());
    EXPECT_THAT(store->GetOrganisation("acme"), StatusIs(absl::StatusCode::kNotFound));
  }
  ASSERT_OK_AND_ASSIGN(const Committed committed, store->Commit(change));
  EXPECT_FALSE(committed.replayed);
}

TEST_F(PostgresStoreTest, AServerThatIsNotThereIsUnavailable) {
  EXPECT_THAT(OpenPostgresStore({.connection = "host=/nonexistent dbname=x", .attempts_max = 2}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("/nonexistent")));
  EXPECT_THAT(OpenPostgresStore({.connection = "hots=/tmp"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("hots")));
}

TEST_F(PostgresStoreTest, RoutersThatStartAtOnceMigrateOnce) {
  constexpr int kRouters = 4;
  std::vector<absl::StatusOr<std::unique_ptr<Store>>> stores(kRouters);
  std::vector<std::thread> routers;
  for (int i = 0; i < kRouters; ++i) routers.emplace_back([&, i] { stores[i] = Open(); });
  for (std::thread& router : routers) router.join();
  for (const auto& store : stores) EXPECT_THAT(store, IsOk());
  EXPECT_EQ(Ask("SELECT COUNT(*) FROM counters"), 3);
}

TEST_F(PostgresStoreTest, ANewerSchemaIsRefused) {
  {
    ASSERT_THAT(Open(), IsOk());
  }
  Ask("INSERT INTO schema_version (version) VALUES (9999) RETURNING version");
  EXPECT_THAT(Open(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("schema version 9999")));
}

TEST_F(PostgresStoreTest, AServerThatMayOnlyBeReadIsATypedErrorAndIsRead) {
  ASSERT_OK_AND_ASSIGN(const auto store, Open());
  ASSERT_THAT(store->Append({TestUsage("c1")}), IsOk());
  // What a standby says.
  Execute(
      "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
      " 'BEGIN RAISE SQLSTATE ''25006''; END';"
      " CREATE TRIGGER refuse BEFORE INSERT ON usage EXECUTE FUNCTION refuse()");
  const absl::Status refused = ToStatus(store->Append({TestUsage("c2")}));
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(refused.GetPayload(kReasonName), absl::Cord("STORE_READ_ONLY"));
  EXPECT_THAT(store->GetUsage("c1"), IsOk());
}

TEST_F(PostgresStoreTest, AServerWhoseDiskIsFullIsATypedErrorAndLeavesNothing) {
  ASSERT_OK_AND_ASSIGN(const auto store, Open());
  Execute(
      "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
      " 'BEGIN IF NEW.charge_id = ''c2'' THEN RAISE disk_full; END IF; RETURN NEW; END';"
      " CREATE TRIGGER fail BEFORE INSERT ON usage FOR EACH ROW EXECUTE FUNCTION fail()");
  EXPECT_THAT(store->Append({TestUsage("c1"), TestUsage("c2")}),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(store->GetUsage("c1"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(store->Append({TestUsage("c1")}), IsOk());
}

TEST_F(PostgresStoreTest, ARouterThatPollsMissesNoChangeOfTheOthers) {
  constexpr int kWriters = 3, kChanges = 25;
  ASSERT_OK_AND_ASSIGN(const auto poller, Open());
  std::vector<std::unique_ptr<Store>> stores;
  for (int w = 0; w < kWriters; ++w) {
    ASSERT_OK_AND_ASSIGN(auto store, Open());
    stores.push_back(std::move(store));
  }
  std::vector<absl::Status> failures(kWriters);
  std::vector<std::thread> writers;
  std::atomic<int> writing = kWriters;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      for (int i = 0; i < kChanges; ++i) {
        const std::string id = absl::StrCat("w", w, "-", i);
        failures[w].Update(ToStatus(stores[w]->Commit(TestChange(id, {TestLimit(id)}))));
      }
      --writing;
    });
  }
  std::set<std::string> seen;
  int64_t revision = 0;
  for (bool last = false, more = false; !last || more;) {
    last = writing == 0;  // then what this poll finds is all
    const auto changes = poller->ChangesSince(revision, 10);
    if (!changes.ok()) {
      ADD_FAILURE() << changes.status();
      break;
    }
    for (const Record& record : changes->records) seen.insert(std::get<LimitRule>(record).id);
    revision = changes->revision;
    more = changes->more;
  }
  for (std::thread& writer : writers) writer.join();
  for (const absl::Status& failure : failures) EXPECT_THAT(failure, IsOk());
  EXPECT_EQ(seen.size(), kWriters * kChanges);
}

}  // namespace
}  // namespace tandem
