#pragma once
#include <cstdint>
#include <string>

namespace tandem {

// The values of these enums are stored: they are never renumbered.
enum class LimitScope { kOrganisation = 1, kProduct = 2, kKey = 3, kModel = 4, kCluster = 5 };

enum class LimitMetric {
  kRequests = 1,
  kInputTokens = 2,
  kOutputTokens = 3,
  kTotalTokens = 4,
  kConcurrentCalls = 5,
  kMoney = 6,  // nano-units of `currency`
};

enum class LimitWindow {
  kNone = 0,    // concurrent calls
  kMinute = 1,  // a token bucket that refills in a minute
  kDay = 2,     // calendar days and months, in UTC
  kMonth = 3,
};

// What holds while the store of the counters does not answer.
enum class OnStoreFailure {
  kLocal = 1,  // a bounded share, counted in this router
  kAllow = 2,
  kDeny = 3,
};

// What a token of each class counts for, in thousandths, for metrics that count tokens.
struct TokenWeights {
  int64_t prompt = 1000;  // each in [0, 1000000]
  int64_t cached = 1000;  // of a prompt token that a cache already held
  int64_t output = 1000;
};

struct LimitRule {
  std::string id;
  LimitScope scope = LimitScope::kCluster;
  std::string subject;  // the scope's id, or a model's name; empty for the cluster
  LimitMetric metric = LimitMetric::kRequests;
  LimitWindow window = LimitWindow::kMinute;
  int64_t amount = 0;    // >= 0; 0 refuses everything
  std::string currency;  // of money, three capital letters; empty otherwise
  TokenWeights weights;
  bool shadow = false;  // counted and reported, never refused
  OnStoreFailure on_store_failure = OnStoreFailure::kLocal;
  bool removed = false;  // kept, so that routers that poll for changes see it go
  int64_t revision = 0;  // set by the store; see Store::Commit
};

}  // namespace tandem
