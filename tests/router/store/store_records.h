#pragma once
#include <string>

#include "router/store/store.h"

// Records that are as they should be, for tests to change in one place.
namespace tandem {

absl::Time TestTime();  // 2026-11-23 12:00 UTC

Organisation TestOrganisation(const std::string& id);
Product TestProduct(const std::string& id, const std::string& organisation_id);
Key TestKey(const std::string& id, const std::string& product_id);
LimitRule TestLimit(const std::string& id);
Price TestPrice(const std::string& id, const std::string& per_million, absl::Time effective_from);
Admission TestAdmission(const std::string& charge_id);
UsageRow TestUsage(const std::string& charge_id);
AuditEntry TestAudit(const std::string& request_id);

// One call that writes `records`, told from others by its request id.
ChangeSet TestChange(const std::string& request_id, std::vector<Record> records);

}  // namespace tandem
