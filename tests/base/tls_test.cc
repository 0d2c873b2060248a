#include "base/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/certificates.h"
#include "base/tls_peer.h"
#include "tests/support/captured_log.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_certificate.h"
#include "tests/support/test_files.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;
using Code = absl::StatusCode;

class TlsFilesTest : public testing::Test {
 protected:
  TlsFilesTest() {
    settings_.section = "server.tls";
    Use(own_);
    settings_.ca_file = folder_.Write("ca.pem", own_.cert);
  }
  void Use(const TestCertificate& certificate) {
    settings_.cert_file = folder_.Write("cert.pem", certificate.cert);
    settings_.key_file = folder_.Write("key.pem", certificate.key);
  }

  const TestFolder folder_;
  const TestCertificate own_ = MakeTestCertificate();
  TlsSettings settings_;
};

TEST_F(TlsFilesTest, ThoseThatDoNotFitAreNamed) {
  const TlsSettings good = settings_;
  const auto expect = [&](absl::string_view error) {
    EXPECT_THAT(ReadTls(settings_), StatusIs(Code::kInvalidArgument, HasSubstr(error)));
    settings_ = good;
  };
  settings_.key_file.clear();
  expect("server.tls.key_file: has to be set too");
  settings_.cert_file.clear();
  expect("server.tls.cert_file: has to be set too");
  settings_.key_file = "/nonexistent/key.pem";
  expect("server.tls.key_file: cannot read /nonexistent/key.pem: No such file");
  settings_.key_file = settings_.cert_file;
  expect("server.tls.key_file: " + settings_.cert_file + " holds no PEM private key");
  settings_.key_file = folder_.Write("key2.pem", MakeTestCertificate().key);
  expect("key2.pem is not the key of the certificate in");
  settings_.cert_file = folder_.Write("junk.pem", "junk");
  expect("server.tls.cert_file: " + settings_.cert_file + " holds no PEM certificate");
  settings_.ca_field = "client_ca_file";
  settings_.ca_file = folder_.Write("junk.pem", "junk");
  expect("server.tls.client_ca_file: " + settings_.ca_file + " holds no PEM certificate");
  settings_.ca_file = folder_.Write("large.pem", std::string((1 << 20) + 1, 'x'));
  expect("larger than 1 MiB");
  EXPECT_THAT(ReadTls(settings_), IsOk());
}

TEST_F(TlsFilesTest, ACertificateWhoseTimeIsNotNowIsRefused) {
  Use(MakeTestCertificate({.valid_from = -7200, .valid_until = -3600}));
  EXPECT_THAT(ReadTls(settings_), StatusIs(Code::kInvalidArgument, HasSubstr("expired at ")));
  Use(MakeTestCertificate({.valid_from = 3600, .valid_until = 7200}));
  EXPECT_THAT(ReadTls(settings_), StatusIs(Code::kInvalidArgument, HasSubstr("not valid before ")));
}

// Waits until the files in use are `want`.
bool Await(const Certificates& certificates, const std::string& want) {
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (certificates.files()->cert != want && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  return certificates.files()->cert == want;
}

std::string Contents(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST_F(TlsFilesTest, NewOnesAreUsedWhenTheyFitAndTheOldOnesUntilThen) {
  ASSERT_OK_AND_ASSIGN(const auto certificates,
                       Certificates::Watch(settings_, absl::Milliseconds(1)));
  const std::string path = certificates->identity_path();
  EXPECT_EQ(certificates->files()->cert, own_.cert);
  const TestCertificate second = MakeTestCertificate(), third = MakeTestCertificate();
  Use(second);
  EXPECT_TRUE(Await(*certificates, second.cert));

  const CapturedLog log;
  folder_.Write("key.pem", third.key);  // the certificate is still the second
  folder_.Write("ca.pem", third.cert);
  absl::SleepFor(absl::Milliseconds(50));  // not needed for the result: lets it be seen
  EXPECT_EQ(certificates->files()->cert, second.cert);
  EXPECT_EQ(certificates->files()->ca, own_.cert) << "all of it, or nothing";
  folder_.Write("cert.pem", third.cert);
  EXPECT_TRUE(Await(*certificates, third.cert));
  EXPECT_EQ(certificates->files()->ca, third.cert);
  EXPECT_THAT(log.Await("tls files are reloaded"), HasSubstr("tls files are reloaded"));
  EXPECT_EQ(certificates->identity_path(), path);
  EXPECT_EQ(Contents(path), third.key + "\n" + third.cert);
  EXPECT_EQ(Contents(certificates->ca_path()), third.cert);
}

TEST_F(TlsFilesTest, NewOnesThatStayWrongAreWarnedOfOnce) {
  constexpr absl::string_view kWarning = "is not the key of the certificate";
  ASSERT_OK_AND_ASSIGN(const auto certificates,
                       Certificates::Watch(settings_, absl::Milliseconds(1)));
  const CapturedLog log;
  folder_.Write("key.pem", MakeTestCertificate().key);
  EXPECT_THAT(log.Await(kWarning), HasSubstr("server.tls.key_file: " + settings_.key_file));
  absl::SleepFor(absl::Milliseconds(30));  // not needed for the result: some more looks
  const TestCertificate next = MakeTestCertificate();
  Use(next);
  EXPECT_TRUE(Await(*certificates, next.cert));
  const std::string all = log.Await("tls files are reloaded");
  EXPECT_EQ(std::vector<std::string>(absl::StrSplit(all, kWarning)).size(), 2u) << all;
}

TEST(PeerName, IsAnyAlternativeNameAndNothingElse) {
  const TestCertificate pem = MakeTestCertificate(
      {.names = "DNS:a.example,DNS:*.pods.example,IP:10.1.2.3,IP:fd00::7,URI:spiffe://t/worker"});
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(
      BIO_new_mem_buf(pem.cert.data(), static_cast<int>(pem.cert.size())), BIO_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr), X509_free);
  const auto check = [&](const std::vector<std::string>& names) {
    return CheckPeerName(certificate.get(), names);
  };
  for (const std::string name : {"a.example", "A.EXAMPLE", "x.pods.example", "10.1.2.3", "fd00::7",
                                 "fd00:0:0::7", "spiffe://t/worker"}) {
    EXPECT_THAT(check({name}), IsOk()) << name;
    EXPECT_THAT(check({"other", name}), IsOk()) << name;
  }
  EXPECT_THAT(check({}), IsOk());
  // The common name is localhost.
  for (const std::string name : {"localhost", "example", "x.a.example", "y.x.pods.example",
                                 "10.1.2.4", "spiffe://t/workers", "spiffe://t", "", "*"}) {
    EXPECT_THAT(check({name}), StatusIs(Code::kPermissionDenied)) << name;
  }
  EXPECT_THAT(check({"b.example", "c.example"}).message(),
              "the peer's certificate is for [a.example, *.pods.example, 10.1.2.3, fd00::7, "
              "spiffe://t/worker], not for b.example or c.example");
}

}  // namespace
}  // namespace tandem
