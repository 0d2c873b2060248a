#include "base/certificate_expiry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/metric_list.h"
#include "tests/support/captured_log.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_certificate.h"
#include "tests/support/test_files.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Duration kDay = absl::Hours(24);

TEST(ExpiryStates, GoByWhatIsLeftOfALife) {
  const absl::Time from = absl::FromUnixSeconds(1'700'000'000);
  const auto at = [&](absl::Duration life, absl::Duration left) {
    return StateOf({from, from + life}, from + life - left);
  };
  EXPECT_EQ(at(365 * kDay, 14 * kDay), ExpiryState::kFine);
  EXPECT_EQ(at(365 * kDay, 14 * kDay - absl::Seconds(1)), ExpiryState::kSoon);
  EXPECT_EQ(at(absl::Hours(6), absl::Hours(1)), ExpiryState::kFine);
  EXPECT_EQ(at(absl::Hours(6), absl::Minutes(59)), ExpiryState::kSoon);
  EXPECT_EQ(at(kDay, absl::ZeroDuration()), ExpiryState::kExpired);
  EXPECT_EQ(at(kDay, -kDay), ExpiryState::kExpired);
}

// Moves to where the test says.
class SetClock final : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time now;
};

class CertificateExpiryTest : public testing::Test {
 protected:
  void Use(int valid_until) {
    folder_.Write("cert.pem",
                  MakeTestCertificate({.valid_from = -60, .valid_until = valid_until}).cert);
    until_ = ReadCertificateTimes(settings_)->until;
  }
  // What a look at this distance from the certificate's end logs.
  std::string LookAt(absl::Duration left) {
    const CapturedLog log;
    clock_.now = until_ - left;
    expiry_.Look();
    return log.text();
  }

  const TestFolder folder_;
  const TlsSettings settings_{.section = "server.tls",
                              .cert_file = folder_.path() + "/cert.pem",
                              .key_file = "not looked at"};
  MetricRegistry registry_;
  const MetricFamily<Gauge> gauge_ = DeclareCertificateExpiry(&registry_);
  SetClock clock_;
  absl::Time until_;
  CertificateExpiry expiry_{{.sections = {settings_, {.section = "without"}}, .clock = &clock_},
                            gauge_};
};

TEST_F(CertificateExpiryTest, IsShownForEachSectionThatHasACertificate) {
  Use(1000);
  EXPECT_THAT(LookAt(absl::Seconds(900)), IsEmpty());
  EXPECT_EQ(gauge_.With({"server.tls"}).Value(), absl::ToUnixSeconds(until_));
  EXPECT_THAT(registry_.Text(), testing::Not(HasSubstr("without")));
  Use(2000);
  EXPECT_THAT(LookAt(absl::Seconds(900)), IsEmpty());
  EXPECT_EQ(gauge_.With({"server.tls"}).Value(), absl::ToUnixSeconds(until_)) << "the new one's";
}

TEST_F(CertificateExpiryTest, IsWarnedOfOnceAStateAndThenDaily) {
  Use(100 * 24 * 3600);
  EXPECT_THAT(LookAt(15 * kDay), IsEmpty());
  const std::string soon = LookAt(13 * kDay);
  EXPECT_THAT(soon, HasSubstr("a certificate expires soon"));
  EXPECT_THAT(soon, HasSubstr(settings_.cert_file));
  EXPECT_THAT(LookAt(13 * kDay - absl::Minutes(1)), IsEmpty());
  EXPECT_THAT(LookAt(12 * kDay + absl::Minutes(1)), IsEmpty());
  EXPECT_THAT(LookAt(12 * kDay), HasSubstr("expires soon"));
  EXPECT_THAT(LookAt(absl::ZeroDuration()), HasSubstr("has expired"));
  EXPECT_THAT(LookAt(-absl::Hours(1)), IsEmpty());
  EXPECT_THAT(LookAt(-kDay), HasSubstr("has expired"));
  EXPECT_THAT(LookAt(12 * kDay), HasSubstr("expires soon")) << "the date was put right";
  EXPECT_THAT(LookAt(13 * kDay + absl::Minutes(1)), HasSubstr("expires soon")) << "set back again";
  Use(100 * 24 * 3600);
  EXPECT_THAT(LookAt(90 * kDay), IsEmpty()) << "a new one";
  EXPECT_THAT(LookAt(kDay), HasSubstr("expires soon"));
}

TEST_F(CertificateExpiryTest, AFileThatIsBeingReplacedChangesNothing) {
  Use(1000);
  EXPECT_THAT(LookAt(absl::Seconds(900)), IsEmpty());
  folder_.Write("cert.pem", "half of");
  EXPECT_THAT(LookAt(absl::Seconds(1)), IsEmpty());
  EXPECT_EQ(gauge_.With({"server.tls"}).Value(), absl::ToUnixSeconds(until_));
}

TEST_F(CertificateExpiryTest, AThreadLooksByItself) {
  Use(1000);
  clock_.now = until_ + absl::Seconds(1);
  const CapturedLog log;
  ASSERT_OK_AND_ASSIGN(
      const auto watched,
      CertificateExpiry::Watch(
          {.sections = {settings_}, .clock = &clock_, .interval = absl::Milliseconds(1)}, gauge_));
  Use(5000);
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (gauge_.With({"server.tls"}).Value() != absl::ToUnixSeconds(until_) &&
         absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(gauge_.With({"server.tls"}).Value(), absl::ToUnixSeconds(until_));
  EXPECT_THAT(log.text(), HasSubstr("has expired"));
}

}  // namespace
}  // namespace tandem
