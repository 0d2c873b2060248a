#include "tests/router/store/store_records.h"

namespace tandem {

absl::Time TestTime() {
  return absl::FromCivil(absl::CivilHour(2026, 11, 23, 12), absl::UTCTimeZone());
}

Organisation TestOrganisation(const std::string& id) {
  return {.id = id, .name = "Organisation " + id, .created = TestTime()};
}

Product TestProduct(const std::string& id, const std::string& organisation_id) {
  return {
      .id = id, .organisation_id = organisation_id, .name = "Product " + id, .created = TestTime()};
}

Key TestKey(const std::string& id, const std::string& product_id) {
  Key key{.id = id, .product_id = product_id, .name = "Key " + id, .created = TestTime()};
  key.secrets.push_back({.sha256 = {1, 2, 3, 0, 255}, .created = TestTime()});
  return key;
}

LimitRule TestLimit(const std::string& id) {
  return {.id = id, .metric = LimitMetric::kTotalTokens, .amount = 100000};
}

Price TestPrice(const std::string& id, const std::string& per_million, absl::Time effective_from) {
  return {.id = id,
          .model = "smollm2",
          .per_million = per_million,
          .nano_per_million = ParseNanoUnits(per_million).value_or(-1),
          .currency = "USD",
          .effective_from = effective_from};
}

UsageParty TestParty() {
  return {.organisation_id = "acme", .product_id = "acme-chat", .key_id = "k1", .model = "smollm2"};
}

Admission TestAdmission(const std::string& charge_id) {
  return {.charge_id = charge_id,
          .request_id = "request of " + charge_id,
          .router = "router-0",
          .incarnation = 0xfedcba9876543210,  // above what a signed number holds
          .party = TestParty(),
          .admitted = TestTime()};
}

UsageRow TestUsage(const std::string& charge_id) {
  return {.charge_id = charge_id,
          .request_id = "request of " + charge_id,
          .router = "router-0",
          .party = TestParty(),
          .model_revision = "main@1234",
          .finish_reason = "stop",
          .tokens = {.prompt = 100, .cached = 64, .output = 20, .reasoning = 5},
          .admitted = TestTime(),
          .ended = TestTime() + absl::Seconds(2),
          .time_to_first_token = absl::Milliseconds(150),
          .prefill_worker = "p0",
          .decode_worker = "d0",
          .price_version = "price-1",
          .amount_nano = 72000,
          .currency = "USD",
          .end_user = "5f2c"};
}

AuditEntry TestAudit(const std::string& request_id) {
  return {.principal = "key:root",
          .method = "tandem.admin.v1.AdminService/CreateProduct",
          .request_id = request_id,
          .resource = "product:acme-chat",
          .outcome = "ok",
          .when = TestTime(),
          .after = R"({"name": "Chat"})"};
}

ChangeSet TestChange(const std::string& request_id, std::vector<Record> records) {
  return {.records = std::move(records),
          .call = {.principal = "key:root",
                   .request_id = request_id,
                   .request_digest = {7},
                   .response = std::string("answer\0to ", 10) + request_id,
                   .when = TestTime()},
          .audit = TestAudit(request_id)};
}

}  // namespace tandem
