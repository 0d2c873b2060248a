#include "router/store/validate.h"

#include "tests/router/store/store_records.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

TEST(ParseNanoUnits, ReadsDecimalsExactly) {
  EXPECT_THAT(ParseNanoUnits("0"), IsOkAndHolds(0));
  EXPECT_THAT(ParseNanoUnits("0.60"), IsOkAndHolds(600000000));
  EXPECT_THAT(ParseNanoUnits("12"), IsOkAndHolds(12000000000));
  EXPECT_THAT(ParseNanoUnits("0.000000001"), IsOkAndHolds(1));
  EXPECT_THAT(ParseNanoUnits("9223372036.854775807"), IsOkAndHolds(INT64_MAX));
}

TEST(ParseNanoUnits, RefusesWhatIsNoAmount) {
  for (const char* text :
       {"", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "0x1", " 1", "1 ", "nan", "1.0000000001",
        "9223372036.854775808", "99999999999999999999999", "1.2.3", "one"}) {
    EXPECT_THAT(ParseNanoUnits(text), StatusIs(absl::StatusCode::kInvalidArgument)) << text;
  }
}

void ExpectWrong(const Record& record, const char* field) {
  EXPECT_THAT(ValidateRecord(record),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(field)));
}

TEST(ValidateRecord, NamesTheFieldThatIsWrong) {
  EXPECT_THAT(ValidateRecord(TestKey("k", "p")), IsOk());
  for (const std::string& id : {std::string(), std::string("a b"), std::string("a/b"),
                                std::string(65, 'a'), std::string("ä")}) {
    ExpectWrong(TestOrganisation(id), "organisation.id");
  }
  Organisation named = TestOrganisation("a");
  named.name = std::string(257, 'n');
  ExpectWrong(named, "organisation.name: 257 bytes, at most 256");
  named.name = std::string("n\0", 2);
  ExpectWrong(named, "organisation.name: has a NUL");
  Organisation timeless = TestOrganisation("a");
  timeless.created = absl::InfiniteFuture();
  ExpectWrong(timeless, "organisation.created");

  Key key = TestKey("k", "p");
  key.secrets.resize(3, key.secrets[0]);
  ExpectWrong(key, "key.secrets: 3 of them");
  key = TestKey("k", "p");
  key.models = {"a\nb"};
  ExpectWrong(key, "key.models");
  key.models.assign(257, "m");
  ExpectWrong(key, "key.models: 257");
  key = TestKey("k", "p");
  key.kind = KeyKind::kManagement;
  ExpectWrong(key, "key.product_id");
}

TEST(ValidateRecord, LimitsThatContradictThemselvesAreRefused) {
  LimitRule limit = TestLimit("l");
  EXPECT_THAT(ValidateRecord(limit), IsOk());
  limit.metric = LimitMetric::kConcurrentCalls;
  ExpectWrong(limit, "limit.window: concurrent calls have none");
  limit.metric = LimitMetric::kMoney;
  ExpectWrong(limit, "limit.window: money is limited by day or month");
  limit.window = LimitWindow::kMonth;
  ExpectWrong(limit, "limit.currency");
  limit.currency = "usd";
  ExpectWrong(limit, "limit.currency");
  limit.currency = "USD";
  EXPECT_THAT(ValidateRecord(limit), IsOk());
  limit.metric = LimitMetric::kRequests;
  ExpectWrong(limit, "limit.currency: only money");
  limit = TestLimit("l");
  limit.subject = "someone";
  ExpectWrong(limit, "limit.subject: the cluster has none");
  limit.scope = LimitScope::kProduct;
  limit.subject = "";
  ExpectWrong(limit, "limit.subject");
  limit = TestLimit("l");
  limit.amount = -1;
  ExpectWrong(limit, "limit.amount");
  limit = TestLimit("l");
  limit.weights.cached = 1000001;
  ExpectWrong(limit, "limit.weights");
  limit = TestLimit("l");
  limit.scope = static_cast<LimitScope>(9);
  ExpectWrong(limit, "limit.scope");
}

TEST(ValidateRecord, APriceThatSaysTwoThingsIsRefused) {
  Price price = TestPrice("p", "0.60", TestTime());
  EXPECT_THAT(ValidateRecord(price), IsOk());
  price.nano_per_million = 60;
  ExpectWrong(price, "price.nano_per_million: is 60, but 0.60 is 600000000");
  price = TestPrice("p", "cheap", TestTime());
  ExpectWrong(price, "price.per_million: 'cheap'");
}

TEST(ValidateLedgerEvent, UsageThatCannotBeIsRefused) {
  UsageRow row = TestUsage("c");
  EXPECT_THAT(ValidateLedgerEvent(row), IsOk());
  row.tokens.cached = row.tokens.prompt + 1;
  EXPECT_THAT(ValidateLedgerEvent(row),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("cached")));
  row = TestUsage("c");
  row.tokens.output = -1;
  EXPECT_THAT(ValidateLedgerEvent(row), StatusIs(absl::StatusCode::kInvalidArgument));
  row = TestUsage("c");
  row.currency = "";
  EXPECT_THAT(ValidateLedgerEvent(row),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("an amount needs one")));
  Admission admission = TestAdmission("");
  EXPECT_THAT(ValidateLedgerEvent(admission), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(ValidateChangeSet, ACallIsBoundedAndNamed) {
  EXPECT_THAT(ValidateChangeSet(TestChange("r", {})), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ValidateChangeSet(TestChange("", {TestLimit("l")})),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("request id")));
  ChangeSet change = TestChange("r", std::vector<Record>(kChangeSetMax + 1, TestLimit("l")));
  EXPECT_THAT(ValidateChangeSet(change), StatusIs(absl::StatusCode::kInvalidArgument));
  change = TestChange("r", {TestLimit("l")});
  change.call.response = std::string((1 << 20) + 1, 'x');
  EXPECT_THAT(ValidateChangeSet(change),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("call.response")));
  change = TestChange("r", {TestLimit("l"), TestLimit("")});
  EXPECT_THAT(ValidateChangeSet(change),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("records[1]: limit.id")));
}

}  // namespace
}  // namespace tandem
