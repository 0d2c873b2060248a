#pragma once
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "router/store/postgres_store.h"
#include "router/store/sql.h"

namespace tandem {

// One connection to a PostgreSQL server. libpqxx throws; nothing that it throws leaves this class.
//   errors  Unavailable the server is gone, read-only, or busy for too long; ResourceExhausted its
//           disk is full; FailedPrecondition it doesn't let us do this; Internal a statement that
//           is wrong, or breaks a constraint
//   threads one at a time
class PostgresConnection {
 public:
  static absl::StatusOr<std::unique_ptr<PostgresConnection>> Open(const PostgresOptions& options);
  ~PostgresConnection();

  struct Outcome {
    absl::Status status;
    bool try_again = false;  // it lost against another transaction, or the connection is broken
  };
  // Runs `body` once. `reads` asks for one picture of all tables, and refuses writes.
  Outcome Transact(bool reads, const std::function<absl::Status(SqlSession&)>& body);
  // After this no call can succeed any more: open another one.
  bool broken() const;

 private:
  struct Link;  // keeps libpqxx out of this header
  explicit PostgresConnection(std::unique_ptr<Link> link);
  const std::unique_ptr<Link> link_;
};

}  // namespace tandem
