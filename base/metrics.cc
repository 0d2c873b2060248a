#include "base/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <deque>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/check.h"
#include "base/mutex.h"

namespace tandem {
namespace {

constexpr size_t kMostSeries = 1000;  // of one metric
constexpr char kOther[] = "other";

template <typename Series>
struct NativeOf;
template <>
struct NativeOf<Counter> {
  using Type = prometheus::Counter;
};
template <>
struct NativeOf<Gauge> {
  using Type = prometheus::Gauge;
};
template <>
struct NativeOf<Histogram> {
  using Type = prometheus::Histogram;
};

}  // namespace

void Counter::Add(double amount) const { counter_->Increment(amount); }
double Counter::Value() const { return counter_->Value(); }
void Gauge::Set(double value) const { gauge_->Set(value); }
void Gauge::Add(double amount) const { gauge_->Increment(amount); }
double Gauge::Value() const { return gauge_->Value(); }
void Histogram::Observe(double value) const { histogram_->Observe(value); }
void Histogram::Observe(absl::Duration value) const {
  histogram_->Observe(absl::ToDoubleSeconds(value));
}

template <typename Series>
struct MetricFamily<Series>::Impl {
  using Native = typename NativeOf<Series>::Type;
  prometheus::Family<Native>* family;
  MetricRegistry::Labels labels;
  std::vector<double> buckets;
  Mutex mu;
  absl::flat_hash_map<std::string, Native*> series ABSL_GUARDED_BY(mu);

  Native* Make(const std::vector<std::string>& values) {
    prometheus::Labels named;
    for (size_t i = 0; i < labels.size(); ++i) named[labels[i]] = values[i];
    if constexpr (std::is_same_v<Series, Histogram>) {
      return &family->Add(named, buckets);
    } else {
      return &family->Add(named);
    }
  }
};

template <typename Series>
Series MetricFamily<Series>::With(std::initializer_list<absl::string_view> label_values) const {
  TANDEM_CHECK(label_values.size() == impl_->labels.size(), "a value for each declared label");
  const std::string key = absl::StrJoin(label_values, absl::string_view("\0", 1));
  MutexLock lock(&impl_->mu);
  const auto found = impl_->series.find(key);
  if (found != impl_->series.end()) return Series(found->second);
  std::vector<std::string> values(label_values.begin(), label_values.end());
  if (impl_->series.size() >= kMostSeries) {
    values.assign(values.size(), kOther);
    return Series(impl_->Make(values));  // the same series each time
  }
  return Series(impl_->series[key] = impl_->Make(values));
}

template class MetricFamily<Counter>;
template class MetricFamily<Gauge>;
template class MetricFamily<Histogram>;

struct MetricRegistry::Impl {
  prometheus::Registry registry{prometheus::Registry::InsertBehavior::Throw};
  // Deques: handles point into them.
  std::deque<MetricFamily<Counter>::Impl> counters;
  std::deque<MetricFamily<Gauge>::Impl> gauges;
  std::deque<MetricFamily<Histogram>::Impl> histograms;
  std::vector<MetricInfo> infos;
};

MetricRegistry::MetricRegistry() : impl_(std::make_unique<Impl>()) {}
MetricRegistry::~MetricRegistry() = default;

MetricFamily<Counter> MetricRegistry::NewCounter(const std::string& name, const std::string& help,
                                                 const Labels& labels) {
  auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(impl_->registry);
  auto& impl = impl_->counters.emplace_back();
  impl.family = &family;
  impl.labels = labels;
  impl_->infos.push_back({name, "counter", help, labels});
  return MetricFamily<Counter>(&impl);
}

MetricFamily<Gauge> MetricRegistry::NewGauge(const std::string& name, const std::string& help,
                                             const Labels& labels) {
  auto& family = prometheus::BuildGauge().Name(name).Help(help).Register(impl_->registry);
  auto& impl = impl_->gauges.emplace_back();
  impl.family = &family;
  impl.labels = labels;
  impl_->infos.push_back({name, "gauge", help, labels});
  return MetricFamily<Gauge>(&impl);
}

MetricFamily<Histogram> MetricRegistry::NewHistogram(const std::string& name,
                                                     const std::string& help, const Labels& labels,
                                                     const std::vector<double>& buckets) {
  auto& family = prometheus::BuildHistogram().Name(name).Help(help).Register(impl_->registry);
  auto& impl = impl_->histograms.emplace_back();
  impl.family = &family;
  impl.labels = labels;
  impl.buckets = buckets;
  impl_->infos.push_back({name, "histogram", help, labels, buckets});
  return MetricFamily<Histogram>(&impl);
}

void MetricRegistry::NewAlias(const std::string& alias, const std::string& of) {
  for (const MetricInfo& info : impl_->infos) {
    if (info.name != of) continue;
    MetricInfo copy = info;
    copy.name = alias;
    copy.alias_of = of;
    for (std::string& label : copy.labels) label = label == "model" ? "model_name" : label;
    impl_->infos.push_back(std::move(copy));
    return;
  }
  TANDEM_CHECK(false, "an alias names a metric that was declared before it");
}

std::string MetricRegistry::Text() const {
  std::vector<prometheus::MetricFamily> families = impl_->registry.Collect();
  std::vector<prometheus::MetricFamily> aliases;
  for (const MetricInfo& info : impl_->infos) {
    if (info.alias_of.empty()) continue;
    for (const prometheus::MetricFamily& family : families) {
      if (family.name != info.alias_of) continue;
      prometheus::MetricFamily& copy = aliases.emplace_back(family);
      copy.name = info.name;
      for (prometheus::ClientMetric& metric : copy.metric) {
        for (auto& label : metric.label) {
          if (label.name == "model") label.name = "model_name";
        }
      }
    }
  }
  families.insert(families.end(), aliases.begin(), aliases.end());
  return prometheus::TextSerializer().Serialize(families);
}

const std::vector<MetricInfo>& MetricRegistry::infos() const { return impl_->infos; }

std::string MetricsMarkdown(absl::Span<const MetricPage> pages) {
  std::string text =
      "# Metrics\n\n"
      "Generated from `base/metric_list.cc`; do not edit.\n\n"
      "Every process serves these in Prometheus' text format at `/metrics` of its\n"
      "`observability.listen`, beside `/healthz` and `/readyz`. `model` is the name of a model "
      "that\n"
      "is served, never what a client wrote; tenants and users are no labels at all.\n";
  for (const MetricPage& page : pages) {
    absl::StrAppend(&text, "\n## ", page.title,
                    "\n\n| Name | Type | Labels | Meaning |\n|---|---|---|---|\n");
    for (const MetricInfo& info : page.registry->infos()) {
      const std::string labels =
          info.labels.empty() ? "" : absl::StrCat("`", absl::StrJoin(info.labels, "`, `"), "`");
      std::string help = absl::StrReplaceAll(info.help, {{"|", "\\|"}});
      if (!info.alias_of.empty()) help = absl::StrCat("The same as `", info.alias_of, "`.");
      if (!info.buckets.empty()) {
        absl::StrAppend(&help, " Buckets: ", absl::StrJoin(info.buckets, " "), ".");
      }
      absl::StrAppend(&text, "| `", info.name, "` | ", info.type, " | ", labels, " | ", help,
                      " |\n");
    }
  }
  return text;
}

}  // namespace tandem
