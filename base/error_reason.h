#pragma once

// Reasons that an ErrorInfo gives and that another process acts on, besides those in status.h.
namespace tandem {

// A request waited for a worker's room for too long: that worker is full, whoever else takes part.
constexpr char kQueueTimeoutReason[] = "QUEUE_TIMEOUT";

}  // namespace tandem
