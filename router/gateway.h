#pragma once
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/metric_list.h"
#include "router/auth/key_ring.h"
#include "router/limits/rule_book.h"
#include "router/store/store.h"
#include "router/store/store_feed.h"
#include "router/usage/ledger.h"
#include "router/usage/orphan_closer.h"
#include "tandem/config/v1/router.pb.h"

namespace tandem {

// What an anonymous call is charged to: both are in a store from its first start on.
constexpr char kDefaultOrganisation[] = "default";
constexpr char kDefaultProduct[] = "default";

// Who may call, what they may use and what they have used: a router's store and all that is made
// from it.
//   life    Open returns when all that the store holds is known and an earlier life of the router
//           is closed; Stop, or the destructor, writes what is left of the ledger
//   errors  InvalidArgument names the option; the store's
//   threads any
class Gateway {
 public:
  // `metrics` outlives it.
  static absl::StatusOr<std::unique_ptr<Gateway>> Open(const config::v1::RouterConfig& config,
                                                       Incarnation incarnation,
                                                       const GatewayMetrics* metrics);
  ~Gateway();

  Store* store() { return store_.get(); }
  KeyRing* keys() { return &keys_; }
  RuleBook* rules() { return &rules_; }
  Ledger* ledger() { return ledger_.get(); }

  // For gauges; now and then.
  void Tick();
  // Takes no more usage, and waits for the store to have what came, until `deadline`.
  void Stop(absl::Time deadline);

 private:
  explicit Gateway(const GatewayMetrics* metrics) : metrics_(metrics) {}
  absl::Status Start(const config::v1::RouterConfig& config, Incarnation incarnation);
  void Apply(const Changes& changes);
  absl::StatusOr<LedgerWritten> Append(absl::Span<const LedgerEvent> events);

  const GatewayMetrics* const metrics_;
  std::unique_ptr<Store> store_;
  KeyRing keys_;
  RuleBook rules_;
  std::unique_ptr<StoreFeed> feed_;
  std::unique_ptr<Ledger> ledger_;
  std::unique_ptr<OrphanCloser> orphans_;
};

}  // namespace tandem
