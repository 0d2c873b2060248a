#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/ids.h"
#include "router/store/postgres_store.h"
#include "router/store/sqlite_store.h"

// How fast the ledger takes admissions and rows, by how many a transaction has; and how fast a
// router reads all keys when it starts.
//   tandem-store-bench FILE             a SQLite store in FILE, which must not exist
//   tandem-store-bench postgres:CONN    a store on a server
namespace tandem {
namespace {

constexpr int kKeys = 100000;
constexpr absl::Duration kEach = absl::Seconds(2);

[[noreturn]] void Die(const absl::Status& status) {
  std::fprintf(stderr, "tandem-store-bench: %s\n", status.ToString().c_str());
  std::exit(1);
}

std::unique_ptr<Store> Open(absl::string_view where) {
  const bool server = absl::ConsumePrefix(&where, "postgres:");
  auto store = server ? OpenPostgresStore({.connection = std::string(where)})
                      : OpenSqliteStore({.path = std::string(where)});
  if (!store.ok()) Die(store.status());
  return *std::move(store);
}

// Half admissions and half rows, as a router's group commit has them.
std::vector<LedgerEvent> Batch(int events) {
  const UsageParty party{
      .organisation_id = "acme", .product_id = "acme-chat", .key_id = "k1", .model = "smollm2"};
  const absl::Time now = absl::Now();
  std::vector<LedgerEvent> batch;
  for (int i = 0; i < events; ++i) {
    const std::string charge = NewRandomId();
    if (i % 2 == 0) {
      batch.push_back(Admission{.charge_id = charge,
                                .request_id = charge,
                                .router = "router-0",
                                .incarnation = 1,
                                .party = party,
                                .admitted = now});
    } else {
      batch.push_back(UsageRow{.charge_id = charge,
                               .request_id = charge,
                               .router = "router-0",
                               .party = party,
                               .model_revision = "main",
                               .finish_reason = "stop",
                               .tokens = {.prompt = 900, .cached = 512, .output = 200},
                               .admitted = now,
                               .ended = now,
                               .time_to_first_token = absl::Milliseconds(90),
                               .prefill_worker = "prefill-0",
                               .decode_worker = "decode-0",
                               .amount_nano = 123456,
                               .currency = "USD"});
    }
  }
  return batch;
}

void BenchLedger(Store& store, int events) {
  absl::Duration spent;
  int64_t batches = 0;
  for (; spent < kEach; ++batches) {
    const std::vector<LedgerEvent> batch = Batch(events);
    const absl::Time start = absl::Now();
    const auto written = store.Append(batch);
    spent += absl::Now() - start;
    if (!written.ok()) Die(written.status());
  }
  std::printf("append, %4d events a commit: %8.0f events/s, %7.3f ms a commit\n", events,
              batches * events / absl::ToDoubleSeconds(spent),
              absl::ToDoubleMilliseconds(spent) / batches);
}

void AddKeys(Store& store) {
  int64_t made = 0;
  std::vector<Record> records = {
      Organisation{.id = "acme", .created = absl::Now()},
      Product{.id = "acme-chat", .organisation_id = "acme", .created = absl::Now()}};
  while (made < kKeys) {
    for (; records.size() < kChangeSetMax && made < kKeys; ++made) {
      Key key{.id = absl::StrCat("key-", made), .product_id = "acme-chat", .created = absl::Now()};
      key.secrets.resize(1);
      key.secrets[0].created = absl::Now();
      records.push_back(std::move(key));
    }
    const std::string id = NewRandomId();
    const auto committed =
        store.Commit({.records = std::move(records),
                      .call = {.principal = "bench", .request_id = id, .when = absl::Now()},
                      .audit = {.principal = "bench", .request_id = id, .when = absl::Now()}});
    if (!committed.ok()) Die(committed.status());
    records.clear();
  }
}

void BenchKeys(Store& store) {
  const absl::Time start = absl::Now();
  AddKeys(store);
  const absl::Time added = absl::Now();
  int64_t read = 0, revision = 0;
  for (bool more = true; more;) {
    const auto changes = store.ChangesSince(revision, kPageSizeMax);
    if (!changes.ok()) Die(changes.status());
    read += changes->records.size();
    revision = changes->revision;
    more = changes->more;
  }
  const absl::Time loaded = absl::Now();
  constexpr int kPolls = 1000;
  for (int i = 0; i < kPolls; ++i) {
    if (const auto now = store.Revision(); !now.ok()) Die(now.status());
  }
  std::printf("%d keys: added in %.2f s (64 a commit), %d records read in %.2f s, a poll %.1f us\n",
              kKeys, absl::ToDoubleSeconds(added - start), static_cast<int>(read),
              absl::ToDoubleSeconds(loaded - added),
              absl::ToDoubleMicroseconds(absl::Now() - loaded) / kPolls);
}

int Main(const std::string& where) {
  const auto store = Open(where);
  for (const int events : {1, 16, 256, 4096}) BenchLedger(*store, events);
  BenchKeys(*store);
  return 0;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: tandem-store-bench FILE | postgres:CONNECTION\n");
    return 2;
  }
  return tandem::Main(argv[1]);
}
