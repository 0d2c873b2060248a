#pragma once
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "base/tls.h"

namespace tandem {

enum class ExpiryState {
  kFine,
  kSoon,  // less than two weeks are left, and less than a sixth of its life
  kExpired,
};
ExpiryState StateOf(const CertificateTimes& times, absl::Time now);

// Watches how long the certificates of a process are still good for: shows when each ends, and
// warns of one that ends soon or has ended, when that begins and then once a day. What is watched
// is the file; that a new one cannot be used is Certificates' to say. Whether it is good is judged
// by this machine's date; a peer's judgement is by the peer's.
//   life    a thread looks every `interval`; where no section has a certificate there is none. The
//           gauge's registry outlives it
//   errors  of Watch: Unavailable there is no thread for it
//   threads Look by one at a time: the thread, or a test without one
class CertificateExpiry {
 public:
  struct Options {
    std::vector<TlsSettings> sections;  // those without a certificate are passed over
    const Clock* clock = WallClock();
    absl::Duration interval = absl::Minutes(1);
  };
  // The gauge's label is the section.
  static absl::StatusOr<std::unique_ptr<CertificateExpiry>> Watch(const Options& options,
                                                                  MetricFamily<Gauge> gauge);
  CertificateExpiry(const Options& options, MetricFamily<Gauge> gauge);
  ~CertificateExpiry();

  void Look();

 private:
  struct Watched {
    TlsSettings settings;
    ExpiryState told = ExpiryState::kFine;
    absl::Time told_at = absl::InfinitePast();
  };
  void LookAt(Watched* watched);
  void Run() ABSL_LOCKS_EXCLUDED(mu_);

  const Clock* const clock_;
  const absl::Duration interval_;
  const MetricFamily<Gauge> gauge_;
  std::vector<Watched> watched_;

  Mutex mu_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace tandem
