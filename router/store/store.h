#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "router/store/audit.h"
#include "router/store/limit_rule.h"
#include "router/store/price.h"
#include "router/store/tenants.h"
#include "router/store/usage.h"

namespace tandem {

constexpr int kPageSizeMax = 1000;
constexpr int kChangeSetMax = 64;      // records of one Commit
constexpr int kLedgerBatchMax = 4096;  // events of one Append

struct PageRequest {
  int size = 100;      // in [1, kPageSizeMax]
  std::string cursor;  // of the page before; empty: the first page. Opaque, and only for the same
                       // listing: another's is InvalidArgument
};

template <typename T>
struct Page {
  std::vector<T> items;
  std::string next_cursor;  // empty: there is no more
};

using Record = std::variant<Organisation, Product, Key, LimitRule, Price>;

// What one call of the admin service changes, all or nothing.
struct ChangeSet {
  std::vector<Record> records;  // whole records. revision 0 makes a new one, any other says which
                                // state the change was made from. In an order that has parents
                                // before their children
  AdminCall call;
  AuditEntry audit;
};

struct Committed {
  bool replayed = false;  // the call was made before: nothing was changed now
  std::string response;   // the first answer's
  int64_t revision = 0;   // of the store, now
};

// Records that changed after some revision, each once, in its newest state.
struct Changes {
  std::vector<Record> records;  // by revision
  int64_t revision = 0;         // ask from here next
  bool more = false;            // at once
};

// The authoritative store: tenants, limits, prices, usage, audit. One file (OpenSqliteStore), or a
// server that several routers share (OpenPostgresStore); one suite holds both to this contract.
//   units   times to the microsecond, what is finer is cut off; money in nano-units
//   life    a call that returned OK is on disk: no crash and no power loss takes it back
//   errors  InvalidArgument a value out of its bounds, by name; NotFound, AlreadyExists;
//           Aborted a record changed since it was read: read it again; FailedPrecondition the
//           change is not allowed in this state; ResourceExhausted the disk is full; Unavailable
//           the store does not answer, is busy or read-only now; DataLoss it is damaged.
//           After an error nothing of the call is there, but where a server's connection was lost
//           for good while committing: then all of it may be. Every write may simply be sent again
//   threads any; calls wait for each other and for the disk, so never from an event loop.
//           Append does not wait for readers
class Store {
 public:
  virtual ~Store() = default;

  // Writes the records, one line of audit and the answer in one transaction. A second call with
  // the same principal and request id is answered from the first, if its digest is the same, and
  // else InvalidArgument.
  virtual absl::StatusOr<Committed> Commit(const ChangeSet& changes) = 0;

  // Grows with every Commit that changes records. Cheap: what routers poll.
  virtual absl::StatusOr<int64_t> Revision() = 0;
  // At most `limit` records that changed after `revision`; from 0, everything there is.
  virtual absl::StatusOr<Changes> ChangesSince(int64_t revision, int limit) = 0;

  virtual absl::StatusOr<Organisation> GetOrganisation(absl::string_view id) = 0;
  virtual absl::StatusOr<Product> GetProduct(absl::string_view id) = 0;
  virtual absl::StatusOr<Key> GetKey(absl::string_view id) = 0;
  virtual absl::StatusOr<LimitRule> GetLimit(absl::string_view id) = 0;
  // By id. An empty parent lists all. Listings of limits include removed ones.
  virtual absl::StatusOr<Page<Organisation>> ListOrganisations(const PageRequest& page) = 0;
  virtual absl::StatusOr<Page<Product>> ListProducts(absl::string_view organisation_id,
                                                     const PageRequest& page) = 0;
  virtual absl::StatusOr<Page<Key>> ListKeys(absl::string_view product_id,
                                             const PageRequest& page) = 0;
  virtual absl::StatusOr<Page<LimitRule>> ListLimits(absl::string_view subject,
                                                     const PageRequest& page) = 0;
  virtual absl::StatusOr<Page<Price>> ListPrices(absl::string_view model,
                                                 const PageRequest& page) = 0;
  // At most one of each kind: the latest that is effective at `when`, and of those with one
  // effective_from the one that was stored last.
  virtual absl::StatusOr<std::vector<Price>> PricesAt(absl::string_view model, absl::Time when) = 0;

  // Writes what isn't there yet, in one transaction: a charge id has at most one admission and one
  // row, the first that came. InvalidArgument names the event that is wrong; ValidateLedgerEvent
  // finds it before it can spoil others' batch.
  virtual absl::StatusOr<LedgerWritten> Append(absl::Span<const LedgerEvent> events) = 0;
  // Gives every orphan a row with outcome ABANDONED, and forgets admissions that have their row.
  // At most `limit` of them at a time.
  virtual absl::StatusOr<OrphansClosed> CloseOrphans(const OrphanQuery& query, int limit) = 0;
  virtual absl::StatusOr<UsageRow> GetUsage(absl::string_view charge_id) = 0;
  // By the time of the end, then charge id. A row may still come up to a request's life late.
  virtual absl::StatusOr<Page<UsageRow>> ListUsage(const UsageFilter& filter,
                                                   const PageRequest& page) = 0;
  // Computes a day's totals from its rows and replaces what was there.
  virtual absl::Status RebuildTotals(UsageDay day) = 0;
  // What RebuildTotals last found; by day, product, model, currency.
  virtual absl::StatusOr<Page<UsageTotal>> ListTotals(const UsageFilter& filter,
                                                      const PageRequest& page) = 0;

  // For calls that change nothing, refused ones above all. `sequence` is ignored.
  virtual absl::Status AppendAudit(absl::Span<const AuditEntry> entries) = 0;
  // By sequence, the oldest first.
  virtual absl::StatusOr<Page<AuditEntry>> ListAudit(const PageRequest& page) = 0;

  // The first answer to a call, if it was made and isn't forgotten.
  virtual absl::StatusOr<std::optional<AdminCall>> FindAdminCall(absl::string_view principal,
                                                                 absl::string_view request_id) = 0;
  // Forgets answers from before `when`, at most `limit`; says how many.
  virtual absl::StatusOr<int64_t> ForgetAdminCalls(absl::Time when, int limit) = 0;
};

}  // namespace tandem
