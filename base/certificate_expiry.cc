#include "base/certificate_expiry.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "base/thread.h"

namespace tandem {
namespace {

constexpr absl::Duration kSoon = absl::Hours(14 * 24);
constexpr int kSoonShare = 6;  // of a life: for certificates that live for hours
constexpr absl::Duration kBetweenWarnings = absl::Hours(24);

}  // namespace

ExpiryState StateOf(const CertificateTimes& times, absl::Time now) {
  if (now >= times.until) return ExpiryState::kExpired;
  const absl::Duration soon = std::min(kSoon, (times.until - times.from) / kSoonShare);
  return times.until - now < soon ? ExpiryState::kSoon : ExpiryState::kFine;
}

CertificateExpiry::CertificateExpiry(const Options& options, MetricFamily<Gauge> gauge)
    : clock_(options.clock), interval_(options.interval), gauge_(gauge) {
  for (const TlsSettings& settings : options.sections) {
    if (!settings.cert_file.empty()) watched_.push_back({settings});
  }
}

absl::StatusOr<std::unique_ptr<CertificateExpiry>> CertificateExpiry::Watch(
    const Options& options, MetricFamily<Gauge> gauge) {
  auto expiry = std::make_unique<CertificateExpiry>(options, gauge);
  if (expiry->watched_.empty()) return expiry;
  expiry->Look();
  ASSIGN_OR_RETURN(expiry->thread_, StartThread("watching certificates' ends",
                                                [raw = expiry.get()] { raw->Run(); }));
  return expiry;
}

CertificateExpiry::~CertificateExpiry() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    wake_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void CertificateExpiry::Look() {
  for (Watched& watched : watched_) LookAt(&watched);
}

void CertificateExpiry::LookAt(Watched* watched) {
  const TlsSettings& settings = watched->settings;
  const absl::StatusOr<CertificateTimes> times = ReadCertificateTimes(settings);
  if (!times.ok()) return;  // being replaced, or Certificates says why not
  gauge_.With({settings.section}).Set(absl::ToDoubleSeconds(times->until - absl::UnixEpoch()));
  const absl::Time now = clock_->Now();
  const ExpiryState state = StateOf(*times, now);
  const ExpiryState before = std::exchange(watched->told, state);
  if (state == ExpiryState::kFine) return;
  // A clock that was set back must not silence it until it is where it was.
  if (state == before && absl::AbsDuration(now - watched->told_at) < kBetweenWarnings) return;
  watched->told_at = now;
  LogWarning(state == ExpiryState::kSoon ? "a certificate expires soon: renew it"
                                         : "a certificate has expired: peers refuse it",
             {{"section", settings.section},
              {"file", settings.cert_file},
              {"until", absl::FormatTime(times->until, absl::UTCTimeZone())}});
}

void CertificateExpiry::Run() {
  while (true) {
    {
      MutexLock lock(&mu_);
      if (!stopping_) wake_.WaitFor(&mu_, interval_);
      if (stopping_) return;
    }
    Look();
  }
}

}  // namespace tandem
