#include <signal.h>
#include <sqlite3.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "router/store/sqlite_store.h"
#include "tests/router/store/store_records.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/status_matchers.h"

// SQLite's writes go through WatchedWrite and its syncs through the two functions below, which take
// the C library's place in this program.
namespace tandem {
namespace {

constexpr int kNever = -1;
std::atomic<int> g_writes_left = kNever;  // until the process is killed, in the midst of one
std::atomic<int> g_unsynced = 0;          // writes since the last sync

ssize_t WatchedWrite(int fd, const void* bytes, size_t count, off_t offset) {
  if (g_writes_left != kNever && g_writes_left-- == 0) {
    const ssize_t half = pwrite(fd, bytes, count / 2, offset);
    static_cast<void>(half);
    raise(SIGKILL);
  }
  ++g_unsynced;
  return pwrite(fd, bytes, count, offset);
}

int Synced(long call, int fd) {
  g_unsynced = 0;
  return syscall(call, fd);
}

}  // namespace
}  // namespace tandem

extern "C" int fdatasync(int fd) { return tandem::Synced(SYS_fdatasync, fd); }
extern "C" int fsync(int fd) { return tandem::Synced(SYS_fsync, fd); }

namespace tandem {
namespace {

class SqliteCrashTest : public testing::Test {
 protected:
  void SetUp() override {
    sqlite3_vfs* const files = sqlite3_vfs_find("unix");
    ASSERT_NE(files, nullptr);
    for (const char* call : {"pwrite", "pwrite64"}) {
      const auto function = reinterpret_cast<sqlite3_syscall_ptr>(WatchedWrite);
      ASSERT_EQ(files->xSetSystemCall(files, call, function), SQLITE_OK);
    }
  }
  ScratchFolder folder_;
};

std::vector<LedgerEvent> BatchOf(int batch) {
  std::vector<LedgerEvent> events;
  for (int i = 0; i < 5; ++i) {
    events.push_back(TestAdmission(absl::StrCat("b", batch, "-", i)));
    events.push_back(TestUsage(absl::StrCat("b", batch, "-", i)));
  }
  return events;
}

TEST_F(SqliteCrashTest, ACallThatReturnedIsOnDisk) {
  ASSERT_OK_AND_ASSIGN(const auto store, OpenSqliteStore({.path = folder_.path() + "/s.db"}));
  for (int batch = 0; batch < 3; ++batch) {
    g_unsynced = 1;
    ASSERT_THAT(store->Append(BatchOf(batch)), IsOk());
    EXPECT_EQ(g_unsynced, 0) << "a power loss would take acknowledged rows back";
    g_unsynced = 1;
    const std::string id = absl::StrCat("l", batch);
    ASSERT_THAT(store->Commit(TestChange(id, {TestLimit(id)})), IsOk());
    EXPECT_EQ(g_unsynced, 0);
  }
}

constexpr int kBatches = 3;

// Runs in a child: says on `out` how many steps are done, and dies at the given write.
[[noreturn]] void WorkAndDie(const std::string& path, int writes, int out) {
  auto store = OpenSqliteStore({.path = path});
  if (!store.ok()) _exit(1);
  g_writes_left = writes;
  for (int batch = 0; batch < kBatches; ++batch) {
    const bool wrote =
        (*store)->Append(BatchOf(batch)).ok() &&
        (*store)
            ->Commit(TestChange(absl::StrCat("r", batch), {TestLimit(absl::StrCat("l", batch))}))
            .ok();
    if (!wrote || write(out, "+", 1) != 1) _exit(2);
  }
  store->reset();  // moves the log into the file
  _exit(0);
}

// True where the child came to its end; `done` counts the steps that it reported.
absl::StatusOr<bool> RunChild(const std::string& path, int writes, int& done) {
  int ends[2];
  if (pipe(ends) != 0) return absl::InternalError("pipe");
  const pid_t child = fork();
  if (child == 0) WorkAndDie(path, writes, ends[1]);
  close(ends[1]);
  char step = 0;
  for (done = 0; read(ends[0], &step, 1) == 1;) ++done;
  close(ends[0]);
  int status = 0;
  if (waitpid(child, &status, 0) != child) return absl::InternalError("waitpid");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return false;
  return absl::InternalError(absl::StrCat("the child ended with ", status));
}

// What is there is whole, and at least what was reported.
void CheckStore(const std::string& path, int done) {
  ASSERT_OK_AND_ASSIGN(const auto store, OpenSqliteStore({.path = path}));
  ASSERT_OK_AND_ASSIGN(const Page<UsageRow> rows, store->ListUsage({}, {.size = kPageSizeMax}));
  EXPECT_GE(rows.items.size(), done * 5);
  EXPECT_EQ(rows.items.size() % 5, 0) << "a batch is there in part";
  ASSERT_OK_AND_ASSIGN(const int64_t revision, store->Revision());
  ASSERT_OK_AND_ASSIGN(const Page<AuditEntry> audit, store->ListAudit({}));
  EXPECT_GE(revision, done);
  EXPECT_EQ(audit.items.size(), revision) << "a change without its line of audit";
  // All of it again, as a restarted router would: each is there once.
  for (int batch = 0; batch < kBatches; ++batch) {
    ASSERT_THAT(store->Append(BatchOf(batch)), IsOk());
    ASSERT_OK_AND_ASSIGN(
        const Committed again,
        store->Commit(TestChange(absl::StrCat("r", batch), {TestLimit(absl::StrCat("l", batch))})));
    EXPECT_EQ(again.replayed, batch < revision);
  }
  ASSERT_THAT(store->RebuildTotals(UsageDayOf(TestTime())), IsOk());
  ASSERT_OK_AND_ASSIGN(const Page<UsageTotal> totals, store->ListTotals({}, {}));
  ASSERT_EQ(totals.items.size(), 1);
  EXPECT_EQ(totals.items[0].requests, kBatches * 5);
}

TEST_F(SqliteCrashTest, KilledInTheMidstOfAnyWriteItLosesNothingAcknowledged) {
  constexpr int kWritesMax = 2000, kStep = 3;  // coprime to a page's two writes: both kinds are hit
  const std::string fresh = folder_.path() + "/fresh.db";
  {
    ASSERT_THAT(OpenSqliteStore({.path = fresh}), IsOk());
  }
  bool finished = false;
  int killed = 0;
  for (int writes = 0; !finished && writes < kWritesMax; writes += kStep) {
    SCOPED_TRACE(absl::StrCat("killed in write ", writes));
    const std::string path = absl::StrCat(folder_.path(), "/", writes, ".db");
    std::filesystem::copy_file(fresh, path);
    int done = 0;
    ASSERT_OK_AND_ASSIGN(finished, RunChild(path, writes, done));
    killed += finished ? 0 : 1;
    CheckStore(path, done);
    if (HasFailure()) return;
  }
  EXPECT_TRUE(finished) << "it was killed each time: raise kWritesMax";
  EXPECT_GT(killed, 20);
}

}  // namespace
}  // namespace tandem
