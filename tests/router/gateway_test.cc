#include "router/gateway.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "base/config.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class GatewayTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Gateway>> Open(std::vector<std::string> sets = {}) {
    sets.insert(sets.begin(), {"server.listen=127.0.0.1:0", "workers=[127.0.0.1:1]",
                               absl::StrCat("store.sqlite_file=", file_)});
    const auto config = LoadConfig<config::v1::RouterConfig>("", sets);
    EXPECT_THAT(config, IsOk());
    return Gateway::Open(*config, NewIncarnation(), &metrics_);
  }

  const ScratchFolder folder_;
  const std::string file_ = folder_.path() + "/tandem.db";
  MetricRegistry registry_;
  const GatewayMetrics metrics_{&registry_};
};

TEST_F(GatewayTest, AnEmptyStoreGetsTheDefaultTenantOnce) {
  for (int start = 0; start < 2; ++start) {
    ASSERT_OK_AND_ASSIGN(const auto gateway, Open());
    ASSERT_OK_AND_ASSIGN(const Product product, gateway->store()->GetProduct("default"));
    EXPECT_EQ(product.organisation_id, "default");
    ASSERT_OK_AND_ASSIGN(const auto log, gateway->store()->ListAudit({}));
    EXPECT_EQ(log.items.size(), 1u);
  }
}

TEST_F(GatewayTest, AStoreInAFileIsForOneRouter) {
  ASSERT_OK_AND_ASSIGN(const auto gateway, Open());
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kFailedPrecondition,
                               AllOf(HasSubstr("store.sqlite_file: "), HasSubstr(file_),
                                     HasSubstr("several need PostgreSQL"))));
}

TEST_F(GatewayTest, SeveralRoutersNeedAStoreAndCountersThatTheyShare) {
  EXPECT_THAT(Open({"routers=2"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("store.postgres_url"), HasSubstr("rate_limits.redis_url"))));
  EXPECT_FALSE(std::filesystem::exists(file_));
}

TEST_F(GatewayTest, APasswordFileThatCannotBeReadIsNamed) {
  EXPECT_THAT(Open({"store.postgres_url=postgresql://127.0.0.1:1/x",
                    absl::StrCat("store.postgres_password_file=", folder_.path(), "/none")}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("store.postgres_password_file"), HasSubstr("/none"))));
}

TEST_F(GatewayTest, WhatAnEarlierLifeLeftOpenIsClosedAtTheStart) {
  const Admission admission = {.charge_id = "c1",
                               .request_id = "r1",
                               .router = "router",
                               .incarnation = 1,
                               .party = {"default", "default", "", "smol"},
                               .admitted = WallClock()->Now()};
  {
    ASSERT_OK_AND_ASSIGN(const auto gateway, Open());
    ASSERT_THAT(gateway->store()->Append({{admission}}), IsOk());
  }
  ASSERT_OK_AND_ASSIGN(const auto gateway, Open());
  ASSERT_OK_AND_ASSIGN(const UsageRow row, gateway->store()->GetUsage("c1"));
  EXPECT_EQ(row.outcome, UsageOutcome::kAbandoned);
  EXPECT_EQ(metrics_.ledger_events.With({"abandoned"}).Value(), 1);
}

}  // namespace
}  // namespace tandem
