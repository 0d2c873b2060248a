#pragma once
#include <sys/types.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "tests/support/scratch_folder.h"

namespace tandem {

// A PostgreSQL server of this test program's own: Debian's binaries on a scratch folder, reached by
// a socket in it, and gone with it. As root it runs as another user, since it refuses to be root.
// Its text sorts as English does by default, which no listing of the store may depend on.
//   errors  NotFound no server is installed; Internal it doesn't start, with what it said
class PostgresServer {
 public:
  // The one that all tests of a program share: starting one takes seconds.
  static absl::StatusOr<PostgresServer*> Shared();
  ~PostgresServer();

  // Connects to an empty schema that no one else uses.
  std::string NewSchema();
  // For statements of a test's own.
  const std::string& connection() const { return connection_; }

 private:
  PostgresServer() = default;
  static absl::StatusOr<std::unique_ptr<PostgresServer>> Start();
  absl::Status WaitUntilReady() const;

  ScratchFolder folder_;
  std::string connection_;
  pid_t process_ = -1;
  int schemas_ = 0;
};

}  // namespace tandem
