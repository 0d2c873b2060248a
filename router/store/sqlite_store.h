#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "router/store/store.h"

namespace tandem {

struct SqliteOptions {
  std::string path;  // of the file; made, with mode 0600, where there is none
  // How long a statement waits for another program that holds the file, such as a backup.
  absl::Duration busy_timeout = absl::Seconds(5);
  int64_t bytes_max = int64_t{1} << 40;  // of the file; beyond, writes are ResourceExhausted
  bool check = true;                     // read the whole file for damage before it is used
};

// A store in one file, for one router. `path`.lock is held as long as the store lives; the file
// itself may be read by other programs meanwhile, for a backup (`sqlite3 FILE .backup`).
//   errors  FailedPrecondition another process has the store, it is newer than this program, or it
//           is another program's file; DataLoss it is damaged; Unavailable it can't be opened
absl::StatusOr<std::unique_ptr<Store>> OpenSqliteStore(const SqliteOptions& options);

}  // namespace tandem
