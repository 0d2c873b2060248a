// What the router makes of a legal request is legal to a worker, whose check this links.
#include <gtest/gtest.h>

#include "tests/router/router_fixture.h"
#include "tests/support/status_matchers.h"
#include "worker/service/request_check.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;
namespace wv1 = worker::v1;

constexpr uint32_t kContext = 256;

TEST(Submit, OfALegalRequestIsLegalToAWorker) {
  FakeWorker worker({.max_context = kContext});
  RouterFixture router({.workers = {worker.address()}, .sets = {"limits.default_max_tokens=10"}});
  router.AwaitWorkers(1);
  struct Case {
    uint32_t max_tokens, min_tokens;  // 0: absent
    uint32_t want_max, want_min;
  };
  const uint32_t room = kContext - 2;  // beside "Hi"
  for (const auto& [max_tokens, min_tokens, want_max, want_min] : std::vector<Case>{
           {0, 0, 10, 0},
           {0, 5, 10, 5},
           {0, 40, 40, 40},
           {0, 5000, room, room},
           {5000, 4000, room, room},
           {20, 20, 20, 20},
       }) {
    SCOPED_TRACE(testing::Message() << "max " << max_tokens << ", min " << min_tokens);
    iv1::GenerateRequest request = TextRequest("Hi");
    request.clear_stopping();
    if (max_tokens > 0) request.mutable_stopping()->set_max_tokens(max_tokens);
    if (min_tokens > 0) request.mutable_stopping()->set_min_tokens(min_tokens);
    auto call = router.Generate(request);
    const wv1::Submit submit = worker.NextSubmit();
    const RequestLimits limits = {
        .max_context = kContext, .vocabulary = 264, .roles = {Role::kUnified}};
    ASSERT_OK_AND_ASSIGN(const EngineRequest accepted, CheckSubmit(submit, limits, absl::Now()));
    EXPECT_EQ(accepted.max_tokens, want_max);
    EXPECT_EQ(accepted.min_tokens, want_min);
    call->Cancel();
    EXPECT_FALSE(call->Rest().status.ok());
  }
}

}  // namespace
}  // namespace tandem
