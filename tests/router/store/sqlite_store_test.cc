#include "router/store/sqlite_store.h"

#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"
#include "tests/router/store/store_records.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

class SqliteStoreTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Store>> Open() { return OpenSqliteStore({.path = path_}); }
  // Runs statements as another program would.
  void RunSql(const std::string& sql) {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &database), SQLITE_OK);
    char* error = nullptr;
    EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, &error), SQLITE_OK) << error;
    sqlite3_free(error);
    sqlite3_close(database);
  }

  ScratchFolder folder_;
  const std::string path_ = folder_.path() + "/store.db";
};

std::vector<LedgerEvent> BatchOf(int batch, int rows) {
  std::vector<LedgerEvent> events;
  for (int i = 0; i < rows; ++i) {
    events.push_back(TestAdmission(absl::StrCat("b", batch, "-", i)));
    events.push_back(TestUsage(absl::StrCat("b", batch, "-", i)));
  }
  return events;
}

// Charge ids of all rows; fails on one that is there twice.
std::set<std::string> AllCharges(Store& store) {
  std::set<std::string> charges;
  PageRequest request{.size = kPageSizeMax};
  do {
    const auto page = store.ListUsage({}, request);
    EXPECT_THAT(page, IsOk());
    if (!page.ok()) break;
    for (const UsageRow& row : page->items) {
      EXPECT_TRUE(charges.insert(row.charge_id).second) << row.charge_id << " is there twice";
    }
    request.cursor = page->next_cursor;
  } while (!request.cursor.empty());
  return charges;
}

TEST_F(SqliteStoreTest, WhatWasStoredIsThereAfterTheStoreIsOpenedAgain) {
  {
    ASSERT_OK_AND_ASSIGN(const auto store, Open());
    ASSERT_THAT(store->Commit(TestChange("r", {TestOrganisation("acme")})), IsOk());
    ASSERT_THAT(store->Append({TestUsage("c1")}), IsOk());
  }
  ASSERT_OK_AND_ASSIGN(const auto store, Open());
  EXPECT_THAT(store->GetOrganisation("acme"), IsOk());
  EXPECT_THAT(store->GetUsage("c1"), IsOk());
  EXPECT_THAT(store->Revision(), IsOkAndHolds(1));
}

TEST_F(SqliteStoreTest, FilesAreReadableByTheirOwnerOnly) {
  std::ofstream(path_).put(' ').flush();
  std::filesystem::resize_file(path_, 0);
  ASSERT_EQ(chmod(path_.c_str(), 0644), 0);
  ASSERT_OK_AND_ASSIGN(const auto store, Open());
  ASSERT_THAT(store->Append({TestUsage("c1")}), IsOk());
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    EXPECT_EQ(entry.status().permissions() & std::filesystem::perms(0077),
              std::filesystem::perms::none)
        << entry.path();
    ++files;
  }
  EXPECT_EQ(files, 4);  // the file, its log, the log's index, and the lock
}

TEST_F(SqliteStoreTest, ASecondRouterOnTheFileIsRefused) {
  ASSERT_OK_AND_ASSIGN(auto store, Open());
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kFailedPrecondition,
                               HasSubstr(absl::StrCat("held by process ", getpid()))));
  ASSERT_THAT(store->Append({TestUsage("c1")}), IsOk());  // the first is not disturbed
  store.reset();
  EXPECT_THAT(Open(), IsOk());
}

TEST_F(SqliteStoreTest, ABackupTakenWhileTheStoreIsUsedCanBeOpened) {
  ASSERT_OK_AND_ASSIGN(const auto store, Open());
  ASSERT_THAT(store->Append(BatchOf(0, 100)), IsOk());
  const std::string copy = folder_.path() + "/copy.db";
  sqlite3 *from = nullptr, *to = nullptr;
  ASSERT_EQ(sqlite3_open(path_.c_str(), &from), SQLITE_OK);
  ASSERT_EQ(sqlite3_open(copy.c_str(), &to), SQLITE_OK);
  sqlite3_backup* const backup = sqlite3_backup_init(to, "main", from, "main");
  ASSERT_NE(backup, nullptr);
  ASSERT_EQ(sqlite3_backup_step(backup, 3), SQLITE_OK);  // there is more to copy
  ASSERT_THAT(store->Append(BatchOf(1, 100)), IsOk());
  ASSERT_EQ(sqlite3_backup_step(backup, -1), SQLITE_DONE);
  EXPECT_EQ(sqlite3_backup_finish(backup), SQLITE_OK);
  sqlite3_close(from);
  sqlite3_close(to);
  ASSERT_OK_AND_ASSIGN(const auto restored, OpenSqliteStore({.path = copy}));
  EXPECT_EQ(AllCharges(*restored), AllCharges(*store));
}

TEST_F(SqliteStoreTest, ANewerSchemaIsRefusedAndLeftAsItIs) {
  {
    ASSERT_THAT(Open(), IsOk());
  }
  RunSql("INSERT INTO schema_version (version) VALUES (9999)");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kFailedPrecondition,
                               HasSubstr("schema version 9999 and this program knows up to")));
  RunSql("DELETE FROM schema_version WHERE version = 9999");
  EXPECT_THAT(Open(), IsOk());
}

TEST_F(SqliteStoreTest, AnotherProgramsFileIsRefused) {
  RunSql("CREATE TABLE holidays (day TEXT)");
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kFailedPrecondition,
                               HasSubstr("another program's database")));
}

TEST_F(SqliteStoreTest, AFileThatIsNoDatabaseIsRefused) {
  std::ofstream(path_) << std::string(10000, 'x');
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(path_)));
}

TEST_F(SqliteStoreTest, ADamagedFileIsFoundWhenItIsOpened) {
  {
    ASSERT_OK_AND_ASSIGN(const auto store, Open());
    for (int b = 0; b < 4; ++b) ASSERT_THAT(store->Append(BatchOf(b, 200)), IsOk());
  }
  const auto size = std::filesystem::file_size(path_);
  ASSERT_GT(size, 40 * 4096);
  {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(size - 20 * 4096);
    file << std::string(16 * 4096, '\x5a');
  }
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("backup")));
}

TEST_F(SqliteStoreTest, AStoreThatCannotBeOpenedSaysWhere) {
  EXPECT_THAT(OpenSqliteStore({.path = folder_.path() + "/none/store.db"}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("/none/store.db")));
}

TEST_F(SqliteStoreTest, AFullStoreIsTypedAndKeepsWhatItHas) {
  ASSERT_OK_AND_ASSIGN(const auto store, OpenSqliteStore({.path = path_, .bytes_max = 400 * 1024}));
  std::set<std::string> acknowledged;
  absl::Status status;
  for (int b = 0; status.ok(); ++b) {
    ASSERT_LT(b, 1000);
    status = ToStatus(store->Append(BatchOf(b, 20)));
    for (int i = 0; status.ok() && i < 20; ++i) acknowledged.insert(absl::StrCat("b", b, "-", i));
  }
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("full")));
  EXPECT_FALSE(acknowledged.empty());
  EXPECT_EQ(AllCharges(*store), acknowledged);
}

// A limit on this process's files, in place of a disk that is full.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit now = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &now);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(SqliteStoreTest, WritesThatTheSystemRefusesAreTypedAndLaterOnesSucceed) {
  ASSERT_OK_AND_ASSIGN(const auto store, Open());
  ASSERT_THAT(store->Append(BatchOf(0, 20)), IsOk());
  const std::set<std::string> before = AllCharges(*store);
  {
    const FileSizeLimit limit(std::filesystem::file_size(path_ + "-wal") + 8192);
    EXPECT_THAT(store->Append(BatchOf(1, 500)), StatusIs(absl::StatusCode::kResourceExhausted));
    EXPECT_EQ(AllCharges(*store), before);
  }
  EXPECT_THAT(store->Append(BatchOf(1, 500)), IsOk());
  EXPECT_EQ(AllCharges(*store).size(), 520);
}

// Appends batch after batch until it is killed, and says on `out` which are written.
[[noreturn]] void AppendUntilKilled(const std::string& path, int first, int rows, int out) {
  auto store = OpenSqliteStore({.path = path});
  if (!store.ok()) _exit(1);
  for (int batch = first;; ++batch) {
    if (!(*store)->Append(BatchOf(batch, rows)).ok()) _exit(2);
    if (write(out, &batch, sizeof batch) != sizeof batch) _exit(3);
  }
}

TEST_F(SqliteStoreTest, AKilledRouterLosesNoAcknowledgedRowAndDoublesNone) {
  constexpr int kRounds = 6, kRows = 30;
  int next = 0;
  for (int round = 0; round < kRounds; ++round) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) AppendUntilKilled(path_, next, kRows, ends[1]);
    close(ends[1]);
    // It is killed while it writes the batch after these; some rounds let more of them pass.
    int last = next - 1;
    for (int i = 0; i <= round * 3; ++i) ASSERT_EQ(read(ends[0], &last, sizeof last), sizeof last);
    kill(child, SIGKILL);
    while (read(ends[0], &last, sizeof last) == sizeof last) continue;
    close(ends[0]);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << status;

    ASSERT_OK_AND_ASSIGN(const auto store, Open());
    const std::set<std::string> charges = AllCharges(*store);
    ASSERT_GE(charges.size(), (last + 1) * kRows) << "acknowledged rows are gone";
    ASSERT_EQ(charges.size() % kRows, 0) << "a batch is there in part";
    // What a restarted router sends again, not knowing how far it came, is there once.
    next = last + 2;
    ASSERT_THAT(store->Append(BatchOf(last, kRows)), IsOk());
    ASSERT_THAT(store->Append(BatchOf(last + 1, kRows)), IsOk());
    ASSERT_EQ(AllCharges(*store).size(), next * kRows);
  }
}

}  // namespace
}  // namespace tandem
