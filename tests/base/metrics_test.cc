#include "base/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/metric_list.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Metrics, SeriesAppearInTextWithTheirLabels) {
  MetricRegistry registry;
  const RouterMetrics metrics(&registry);
  metrics.requests.With({"smol", "generate", "OK"}).Add();
  metrics.requests.With({"smol", "generate", "OK"}).Add(2);
  metrics.requests_inflight.Set(3);
  metrics.requests_inflight.Add(-1);
  metrics.time_to_first_token.With({"smol"}).Observe(absl::Milliseconds(30));
  const std::string text = registry.Text();
  EXPECT_THAT(text, HasSubstr("# TYPE tandem_requests_total counter\n"));
  EXPECT_THAT(text,
              HasSubstr("tandem_requests_total{api=\"generate\",code=\"OK\",model=\"smol\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("tandem_requests_inflight 2\n"));
  EXPECT_THAT(
      text, HasSubstr("tandem_time_to_first_token_seconds_bucket{model=\"smol\",le=\"0.02\"} 0\n"));
  EXPECT_THAT(
      text, HasSubstr("tandem_time_to_first_token_seconds_bucket{model=\"smol\",le=\"0.04\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("tandem_time_to_first_token_seconds_count{model=\"smol\"} 1\n"));
}

TEST(Metrics, WorkersShowTheNamesThatAutoscalersRead) {
  MetricRegistry registry;
  const WorkerMetrics metrics(&registry);
  metrics.requests_waiting.With({"smol"}).Set(4);
  metrics.requests_running.With({"smol"}).Set(2);
  metrics.kv_cache_usage.With({"smol"}).Set(0.25);
  metrics.cache_config.With({"16", "1024"}).Set(1);
  const std::string text = registry.Text();
  EXPECT_THAT(text, HasSubstr("tandem_worker_requests_waiting{model=\"smol\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_waiting{model_name=\"smol\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_running{model_name=\"smol\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("vllm:kv_cache_usage_perc{model_name=\"smol\"} 0.25\n"));
  EXPECT_THAT(text,
              HasSubstr("vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"1024\"} 1\n"));
}

TEST(Metrics, LabelValuesCannotGrowWithoutBound) {
  MetricRegistry registry;
  const auto family = registry.NewCounter("tandem_test_total", "h", {"a", "b"});
  for (int i = 0; i < 5000; ++i) family.With({absl::StrCat(i), "x"}).Add();
  const std::string text = registry.Text();
  EXPECT_THAT(text, HasSubstr("tandem_test_total{a=\"999\",b=\"x\"} 1\n"));
  EXPECT_THAT(text, Not(HasSubstr("a=\"1000\"")));
  EXPECT_THAT(text, HasSubstr("tandem_test_total{a=\"other\",b=\"other\"} 4000\n"));
}

TEST(Metrics, CountsOfManyThreadsAddUp) {
  MetricRegistry registry;
  const auto family = registry.NewCounter("tandem_test_total", "h", {"a"});
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&family] {
        for (int i = 0; i < 10'000; ++i) family.With({i % 2 == 0 ? "x" : "y"}).Add();
      });
    }
  }
  EXPECT_EQ(family.With({"x"}).Value(), 20'000);
  EXPECT_EQ(family.With({"y"}).Value(), 20'000);
}

TEST(Metrics, NamesFollowOneConvention) {
  MetricRegistry router, worker;
  const RouterMetrics router_metrics(&router);
  const WorkerMetrics worker_metrics(&worker);
  DeclareBuildInfo(&worker, "tandem-worker");
  for (const MetricRegistry* registry : {&router, &worker}) {
    std::set<std::string> seen;
    for (const MetricInfo& info : registry->infos()) {
      SCOPED_TRACE(info.name);
      EXPECT_TRUE(seen.insert(info.name).second) << "declared twice";
      EXPECT_TRUE(absl::StartsWith(info.name, "tandem_") || absl::StartsWith(info.name, "vllm:"));
      EXPECT_EQ(absl::EndsWith(info.name, "_total"), info.type == "counter");
      EXPECT_EQ(info.buckets.empty(), info.type != "histogram");
      EXPECT_TRUE(std::is_sorted(info.buckets.begin(), info.buckets.end()));
      EXPECT_TRUE(absl::EndsWith(info.help, ".")) << "help is a sentence";
      EXPECT_THAT(info.name, Not(HasSubstr("licen"
                                           "ce")));
    }
  }
}

}  // namespace
}  // namespace tandem
