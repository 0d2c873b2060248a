#include "client/http_get.h"

#include <gmock/gmock.h>

#include "base/http_server.h"
#include "base/observability.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kTimeout = absl::Seconds(10);

TEST(HttpGet, ReadsAPageWithItsStatus) {
  const MetricRegistry registry;
  Readiness readiness;
  readiness.Block("models", "none yet");
  ASSERT_OK_AND_ASSIGN(const auto server, ServeObservability("127.0.0.1:0", &registry, &readiness));
  const std::string endpoint = server->address().ToString();
  ASSERT_OK_AND_ASSIGN(const HttpPage blocked, HttpGet(endpoint, "/readyz", kTimeout));
  EXPECT_EQ(blocked.status, 503);
  EXPECT_EQ(blocked.body, "{\"ready\":false,\"reasons\":{\"models\":\"none yet\"}}\n");
  readiness.Clear("models");
  ASSERT_OK_AND_ASSIGN(const HttpPage ready, HttpGet(endpoint, "/readyz", kTimeout));
  EXPECT_EQ(ready.status, 200);
}

TEST(HttpGet, AnErrorNamesThePageAndWhatIsWrong) {
  EXPECT_THAT(HttpGet("127.0.0.1:1", "/metrics", kTimeout),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("http://127.0.0.1:1/metrics: nothing answers there")));
}

TEST(HttpGet, APageAboveTheLimitIsRefused) {
  const std::string large(17 << 20, 'x');
  ASSERT_OK_AND_ASSIGN(
      const auto server,
      HttpServer::Start({.listen = "127.0.0.1:0"},
                        {{"/large", [&] { return HttpResponse{.body = large}; }}}));
  EXPECT_THAT(HttpGet(server->address().ToString(), "/large", kTimeout),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("16777216 bytes")));
}

}  // namespace
}  // namespace tandem
