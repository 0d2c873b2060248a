#pragma once
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "router/store/store.h"

namespace tandem {

struct PostgresOptions {
  // libpq's, as a URI or "host=... dbname=..."; TLS, host lists and passwords as libpq has them.
  std::string connection;
  absl::Duration connect_timeout = absl::Seconds(5);     // at least 2 s
  absl::Duration statement_timeout = absl::Seconds(10);  // also of waiting for a lock
  // Times that a transaction is tried, where it lost against another or its connection broke.
  int attempts_max = 4;
};

// A store on a PostgreSQL server (12 or newer), for any number of routers. Its tables lie in the
// first schema of the connection's search_path.
//   life    three connections, made when they are first needed and again when one broke. A lost
//           connection costs one more try; only a server that stays away is an error
//   errors  InvalidArgument `connection` can't be read; Unavailable the server can't be reached or
//           does not let us in; FailedPrecondition its tables are newer than this program
absl::StatusOr<std::unique_ptr<Store>> OpenPostgresStore(const PostgresOptions& options);

}  // namespace tandem
