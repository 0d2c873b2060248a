#pragma once
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "router/store/store.h"

// What a record must be like before it is stored. All of them are pure; InvalidArgument names the
// field. A store checks whatever it is given; callers may do so earlier.
namespace tandem {

absl::Status ValidateRecord(const Record& record);
// Whether a stored record may become `next`: what identifies it must not change, a revoked key
// stays revoked, a price stays as it is. FailedPrecondition says what may not.
absl::Status ValidateUpdate(const Record& stored, const Record& next);
absl::Status ValidateChangeSet(const ChangeSet& changes);
absl::Status ValidateLedgerEvent(const LedgerEvent& event);
absl::Status ValidateAudit(const AuditEntry& entry);
absl::Status ValidatePage(const PageRequest& page);
// Text of at most `bytes_max` bytes that both databases take: UTF-8 without NUL.
absl::Status ValidateText(absl::string_view field, absl::string_view value, size_t bytes_max);

}  // namespace tandem
