#pragma once
#include "absl/status/status.h"
#include "router/store/sql.h"

namespace tandem {

// Brings a database to the schema that this program knows: each numbered migration in a
// transaction of its own, that also records its number. Two programs may do so at once; what one
// has applied, the other finds.
//   errors  FailedPrecondition the database has a newer schema than this program knows: it is left
//           as it is
absl::Status Migrate(SqlDatabase& database);

// The number of the last migration that this program knows.
int SchemaVersion();

}  // namespace tandem
