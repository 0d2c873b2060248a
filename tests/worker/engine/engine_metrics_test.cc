#include "worker/engine/engine_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/worker/engine/fake_handoff.h"
#include "tests/worker/engine/harness.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

TEST(EngineMetrics, CountStepsTokensEndsAndHandoffs) {
  MetricRegistry registry;
  const WorkerMetrics metrics(&registry);
  CoreHarness h;
  const EngineMetrics counted(metrics, "toy", h.model.kv()->layout(), 64);
  FakeHandoff handoff(h.model.kv(), h.model.kv());
  h.metrics = &counted;
  h.Connect(&handoff, nullptr);
  h.Submit(ToyRequest(1, 5, 5));
  EngineRequest cancelled = ToyRequest(2, 5, 5);
  h.Submit(cancelled);
  EngineRequest sent = ToyRequest(3, 5, 5);
  sent.role = Role::kPrefill;
  h.Submit(sent);
  h.Turn();
  h.core->Cancel(CoreHarness::kSession, 2);
  handoff.FailSend({"r3", 0}, absl::UnavailableError("full"));
  h.RunDry();
  counted.OnLoad(h.core->load());

  const std::string text = registry.Text();
  EXPECT_THAT(text, HasSubstr("tandem_worker_step_duration_seconds_count{model=\"toy\"} 5"));
  EXPECT_THAT(text, HasSubstr("tandem_worker_tokens_total{model=\"toy\",type=\"prompt\"} 15"));
  EXPECT_THAT(text, HasSubstr("tandem_worker_tokens_total{model=\"toy\",type=\"generated\"} 7"));
  const auto ended = [](const std::string& reason, int count) {
    return HasSubstr(absl::StrCat("tandem_worker_sequences_total{finish_reason=\"", reason,
                                  "\",model=\"toy\"} ", count));
  };
  EXPECT_THAT(text, ended("length", 1));
  EXPECT_THAT(text, ended("cancelled", 1));
  EXPECT_THAT(text, ended("error", 1));
  EXPECT_THAT(text, ended("stop", 0));
  EXPECT_THAT(text,
              HasSubstr("tandem_handoffs_total{direction=\"sent\",outcome=\"unavailable\"} 1"));
  EXPECT_THAT(text, HasSubstr("tandem_worker_kv_cache_usage_ratio{model=\"toy\"} 0"));
}

TEST(EngineMetrics, TellHandoffsApartByTheirTransport) {
  MetricRegistry registry;
  const WorkerMetrics metrics(&registry);
  CoreHarness h;
  const EngineMetrics counted(metrics, "toy", h.model.kv()->layout(), 64);
  counted.OnSent(HandoffSent{100, absl::Seconds(1), "shm"});
  counted.OnSent(HandoffSent{20, absl::Seconds(1), "tcp"});
  counted.OnReceived(HandoffReceived{.bytes = 3, .transport = "tcp"}, absl::Seconds(1));
  const std::string text = registry.Text();
  const auto moved = [](const std::string& direction, const std::string& transport, int bytes) {
    return HasSubstr(absl::StrCat("tandem_handoff_bytes_total{direction=\"", direction,
                                  "\",transport=\"", transport, "\"} ", bytes, "\n"));
  };
  EXPECT_THAT(text, moved("sent", "shm", 100));
  EXPECT_THAT(text, moved("sent", "tcp", 20));
  EXPECT_THAT(text, moved("received", "tcp", 3));
}

TEST(EngineMetrics, CountWhatThePrefixCacheWasAskedForAndFound) {
  MetricRegistry registry;
  const WorkerMetrics metrics(&registry);
  CoreHarness h;
  const EngineMetrics counted(metrics, "toy", h.model.kv()->layout(), 64);
  h.metrics = &counted;
  h.Connect(nullptr, nullptr);
  for (uint64_t handle = 1; handle <= 2; ++handle) {
    EngineRequest request = ToyRequest(handle, 1, 5);
    request.prompt = ToyRequest(7, 40, 1).prompt;
    h.Submit(request);
    h.RunDry();
  }
  counted.OnLoad(h.core->load());
  const std::string text = registry.Text();
  EXPECT_THAT(text, HasSubstr("tandem_worker_prefix_cache_queries_total{model=\"toy\"} 64"));
  EXPECT_THAT(text, HasSubstr("tandem_worker_prefix_cache_hits_total{model=\"toy\"} 32"));
  EXPECT_THAT(text, HasSubstr("tandem_worker_prefix_cache_evictions_total{model=\"toy\"} 0"));
  EXPECT_THAT(text, HasSubstr("tandem_worker_kv_blocks{model=\"toy\",state=\"free\"} 62"));
  EXPECT_THAT(text, HasSubstr("tandem_worker_kv_blocks{model=\"toy\",state=\"ready\"} 2"));
  EXPECT_THAT(text, HasSubstr("tandem_worker_kv_blocks{model=\"toy\",state=\"filling\"} 0"));
  EXPECT_THAT(text, HasSubstr("tandem_worker_kv_cache_usage_ratio{model=\"toy\"} 0"));
}

}  // namespace
}  // namespace tandem
