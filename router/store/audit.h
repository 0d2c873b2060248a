#pragma once
#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "router/store/tenants.h"

namespace tandem {

// One line of the audit log, which only grows.
struct AuditEntry {
  int64_t sequence = 0;    // set by the store: 1, 2, 3, ... without a gap
  std::string principal;   // who: "key:ID", "jwt:SUBJECT", "mtls:NAME"
  std::string method;      // full name of the call
  std::string request_id;  // the caller's
  std::string resource;    // what it was about: "product:acme-chat"
  std::string outcome;     // "ok", or the name of the code that it was refused with
  absl::Time when;
  std::string before, after;  // JSON, at most 64 KiB each, no secrets
};

// What makes a call of the admin service happen once, however often it is sent: the same principal
// and request id again get the first answer, and change nothing.
struct AdminCall {
  std::string principal;
  std::string request_id;
  // Of the request's bytes: an id that comes back with another is refused.
  Sha256Digest request_digest{};
  std::string response;  // bytes, at most 1 MiB; a new key's secret must not be in them
  absl::Time when;
};

}  // namespace tandem
