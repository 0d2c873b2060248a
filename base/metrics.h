#pragma once
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
}  // namespace prometheus

namespace tandem {

// Handles of one time series each: small, copyable, valid as long as their MetricRegistry. Cheap
// enough for the engine's thread: an atomic add, or a short lock for a histogram. Any thread.
class Counter {
 public:
  explicit Counter(prometheus::Counter* counter) : counter_(counter) {}
  void Add(double amount = 1) const;  // amount >= 0
  double Value() const;

 private:
  prometheus::Counter* counter_;
};

class Gauge {
 public:
  explicit Gauge(prometheus::Gauge* gauge) : gauge_(gauge) {}
  void Set(double value) const;
  void Add(double amount) const;  // may be negative
  double Value() const;

 private:
  prometheus::Gauge* gauge_;
};

class Histogram {
 public:
  explicit Histogram(prometheus::Histogram* histogram) : histogram_(histogram) {}
  void Observe(double value) const;
  void Observe(absl::Duration value) const;  // in seconds

 private:
  prometheus::Histogram* histogram_;
};

// All series of one metric. With() finds the series for a list of label values, in the order that
// the metric declares its labels, and makes it at the first use: keep the handle where it is hot.
// No label may take values that a client chooses. Should they grow all the same, the series above
// 1,000 are counted together, under the value "other".
template <typename Series>
class MetricFamily {
 public:
  struct Impl;
  explicit MetricFamily(Impl* impl) : impl_(impl) {}
  Series With(std::initializer_list<absl::string_view> label_values) const;

 private:
  Impl* impl_;
};

// How a metric was declared: what docs/METRICS.md says of it.
struct MetricInfo {
  std::string name, type, help;
  std::vector<std::string> labels;
  std::vector<double> buckets;  // of a histogram
  std::string alias_of;         // the metric that this one repeats under a foreign name
};

// The metrics of one process, and their text form for Prometheus.
//   life     metrics are declared once, at start; outlives all handles
//   threads  declare from one thread; everything else from any
class MetricRegistry {
 public:
  using Labels = std::vector<std::string>;
  MetricRegistry();
  ~MetricRegistry();
  MetricFamily<Counter> NewCounter(const std::string& name, const std::string& help,
                                   const Labels& labels);
  MetricFamily<Gauge> NewGauge(const std::string& name, const std::string& help,
                               const Labels& labels);
  MetricFamily<Histogram> NewHistogram(const std::string& name, const std::string& help,
                                       const Labels& labels, const std::vector<double>& buckets);
  // Shows the series of the metric `of` under the name `alias` too, with its label `model` named
  // `model_name`, as other inference engines do.
  void NewAlias(const std::string& alias, const std::string& of);

  std::string Text() const;  // text format 0.0.4
  const std::vector<MetricInfo>& infos() const;

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

struct MetricPage {
  std::string title;  // e.g. "tandem-router"
  const MetricRegistry* registry;
};

// The text of docs/METRICS.md.
std::string MetricsMarkdown(absl::Span<const MetricPage> pages);

}  // namespace tandem
