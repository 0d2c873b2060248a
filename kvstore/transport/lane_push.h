#pragma once
#include <atomic>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "kvstore/transport/paced_push.h"
#include "kvstore/transport/transport.h"

namespace tandem {

// The sending end of a link with several connections, its lanes. A frame takes the lane that is
// free and has the least in flight: one that is slow gets fewer.
//   life    the first lane that breaks takes the others along
//   errors, threads  as PushConnection; Internal a Push more at once than there are lanes
class LanePush final : public PushConnection {
 public:
  explicit LanePush(std::vector<std::unique_ptr<PacedPush>> lanes);  // at least one

  absl::Status Push(const FrameHeader& header, absl::Span<const absl::Span<const uint8_t>> payload,
                    const PushLimits& limits) override ABSL_LOCKS_EXCLUDED(mu_);
  void Break() override;
  bool broken() const override { return broken_; }

 private:
  absl::StatusOr<size_t> Take() ABSL_LOCKS_EXCLUDED(mu_);
  // Returns what the Push that had the lane says: `pushed`, or why another lane broke before.
  absl::Status GiveBack(size_t lane, const absl::Status& pushed) ABSL_LOCKS_EXCLUDED(mu_);

  const std::vector<std::unique_ptr<PacedPush>> lanes_;
  std::atomic<bool> broken_{false};
  Mutex mu_;
  std::vector<bool> taken_ ABSL_GUARDED_BY(mu_);  // by lane
  absl::Status why_ ABSL_GUARDED_BY(mu_);         // the first lane broke
};

}  // namespace tandem
