#pragma once
#include <grpc/support/time.h>

#include "absl/time/time.h"

// Deadlines of gRPC, and of this code in RealClock's time. gRPC takes and gives points in the
// system's time, too, but by way of two clocks that are read one after the other: a step of the
// system's time in between moves them, and absl::Now() may lag behind a step by seconds.
namespace tandem {

// Such as that of a call (raw_deadline()), infinite where it has none.
absl::Time FromGrpcDeadline(gpr_timespec deadline);
// For contexts, alarms and the end of a server.
gpr_timespec ToGrpcDeadline(absl::Time deadline);

}  // namespace tandem
