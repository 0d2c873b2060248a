#include "router/gateway.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/log.h"
#include "base/status.h"
#include "router/store/postgres_store.h"
#include "router/store/sqlite_store.h"

namespace tandem {
namespace {

using config::v1::RouterConfig;
using config::v1::StoreConfig;

constexpr absl::Duration kPatience = absl::Seconds(5);  // of the last rows, when nobody says

// Several routers that count each for itself would together let through as many times the limit.
absl::Status CheckRouters(const RouterConfig& config) {
  if (config.routers() <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("routers: ", config.routers(),
                   " routers need one store and one place for their counters: set "
                   "store.postgres_url and rate_limits.redis_url"));
}

absl::StatusOr<std::string> PasswordFrom(const std::string& path) {
  std::ifstream file(path);
  std::string password;
  if (!std::getline(file, password) || password.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("store.postgres_password_file: ", path,
                                                   " can't be read, or its first line is empty"));
  }
  return password;
}

// libpq takes a URL's password only inside it; its other form ends with the last word that counts.
std::string WithPassword(const std::string& connection, const std::string& password) {
  if (!absl::StrContains(connection, "://")) {
    return absl::StrCat(connection, " password='",
                        absl::StrReplaceAll(password, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
  }
  std::string encoded;
  for (const unsigned char c : password)
    absl::StrAppend(&encoded, "%", absl::Hex(c, absl::kZeroPad2));
  return absl::StrCat(connection, absl::StrContains(connection, '?') ? "&" : "?",
                      "password=", encoded);
}

absl::StatusOr<std::unique_ptr<Store>> OpenStore(const StoreConfig& config) {
  if (config.postgres_url().empty()) {
    absl::StatusOr<std::unique_ptr<Store>> store = OpenSqliteStore({.path = config.sqlite_file()});
    if (!store.ok()) return Annotate(store.status(), "store.sqlite_file");
    return store;
  }
  std::string connection = config.postgres_url();
  if (!config.postgres_password_file().empty()) {
    ASSIGN_OR_RETURN(const std::string password, PasswordFrom(config.postgres_password_file()));
    connection = WithPassword(connection, password);
  }
  absl::StatusOr<std::unique_ptr<Store>> store = OpenPostgresStore({.connection = connection});
  if (!store.ok()) return Annotate(store.status(), "store.postgres_url");
  return store;
}

// Gives an empty store the tenant that calls without a key are charged to. Two routers that meet
// at an empty store make one call of it: the second is answered from the first.
absl::Status MakeDefaultTenant(Store* store, absl::Time now) {
  ASSIGN_OR_RETURN(const Page<Organisation> there, store->ListOrganisations({.size = 1}));
  if (!there.items.empty()) return absl::OkStatus();
  Organisation organisation{.id = kDefaultOrganisation, .name = "Default", .created = now};
  Product product{.id = kDefaultProduct,
                  .organisation_id = kDefaultOrganisation,
                  .name = "Default",
                  .created = now};
  ChangeSet changes;
  changes.records = {std::move(organisation), std::move(product)};
  changes.call = {.principal = "router", .request_id = "first start", .when = now};
  changes.audit = {.principal = "router",
                   .method = "first start",
                   .request_id = "first start",
                   .resource = absl::StrCat("product:", kDefaultProduct),
                   .outcome = "ok",
                   .when = now};
  return store->Commit(changes).status();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Gateway>> Gateway::Open(const RouterConfig& config,
                                                       Incarnation incarnation,
                                                       const GatewayMetrics* metrics) {
  RETURN_IF_ERROR(CheckRouters(config));
  auto gateway = std::unique_ptr<Gateway>(new Gateway(metrics));
  RETURN_IF_ERROR(gateway->Start(config, incarnation));
  return gateway;
}

absl::Status Gateway::Start(const RouterConfig& config, Incarnation incarnation) {
  ASSIGN_OR_RETURN(store_, OpenStore(config.store()));
  RETURN_IF_ERROR(MakeDefaultTenant(store_.get(), WallClock()->Now()));
  ASSIGN_OR_RETURN(feed_, StoreFeed::Start(StoreFeed::SourceOf(store_.get()), RealClock(), {},
                                           [this](const Changes& changes) { Apply(changes); }));
  OrphanCloser::Options orphans;
  orphans.router = config.name();
  orphans.incarnation = incarnation;
  orphans.wall = WallClock();
  orphans.closed = [this](int64_t rows) {
    metrics_->ledger_events.With({"abandoned"}).Add(static_cast<double>(rows));
  };
  ASSIGN_OR_RETURN(orphans_, OrphanCloser::Start(
                                 [this](const OrphanQuery& query, int limit) {
                                   return store_->CloseOrphans(query, limit);
                                 },
                                 std::move(orphans)));
  ASSIGN_OR_RETURN(ledger_,
                   Ledger::Create([this](auto events) { return Append(events); }, RealClock(), {}));
  return absl::OkStatus();
}

Gateway::~Gateway() { Stop(RealClock()->Now() + kPatience); }

void Gateway::Apply(const Changes& changes) {
  std::vector<LimitRule> rules;
  for (const Record& record : changes.records) {
    if (const auto* rule = std::get_if<LimitRule>(&record)) rules.push_back(*rule);
  }
  rules_.Apply(rules);
  keys_.Apply(changes);
}

absl::StatusOr<LedgerWritten> Gateway::Append(absl::Span<const LedgerEvent> events) {
  const absl::Time start = RealClock()->Now();
  absl::StatusOr<LedgerWritten> written = store_->Append(events);
  metrics_->ledger_duration.Observe(RealClock()->Now() - start);
  if (!written.ok()) return written;
  metrics_->ledger_events.With({"admission"}).Add(static_cast<double>(written->admissions));
  metrics_->ledger_events.With({"row"}).Add(static_cast<double>(written->rows));
  const int64_t repeated =
      static_cast<int64_t>(events.size()) - written->admissions - written->rows;
  if (repeated > 0) {
    LogWarning("the usage ledger had some events already: the first that came is kept",
               {{"events", repeated}});
    metrics_->ledger_events.With({"repeated"}).Add(static_cast<double>(repeated));
  }
  return written;
}

void Gateway::Tick() { metrics_->ledger_waiting.Set(static_cast<double>(ledger_->waiting())); }

void Gateway::Stop(absl::Time deadline) {
  if (ledger_ == nullptr || feed_ == nullptr) return;
  const size_t lost = ledger_->Stop(deadline);
  if (lost > 0) LogError("usage rows are lost", {{"rows", lost}});
  orphans_.reset();
  feed_.reset();
}

}  // namespace tandem
