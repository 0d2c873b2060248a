#include "router/auth/jwt_verifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/router/auth/token_fixture.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

// An issuer whose keys can be changed, or not be read.
class JwtVerifierTest : public ::testing::Test {
 protected:
  std::unique_ptr<JwtVerifier> Start(absl::Duration refresh = absl::Hours(1)) {
    JwtVerifier::Options options;
    options.policy.issuer = kTestIssuer;
    options.policy.audience = kTestAudience;
    options.policy.algorithms = {SignatureAlgorithm::kEs256};
    options.refresh = refresh;
    options.refresh_min = absl::Milliseconds(1);
    options.read_keys = [this]() -> absl::StatusOr<std::string> {
      MutexLock lock(&mu_);
      ++reads_;
      read_.NotifyAll();
      return keys_;
    };
    return *JwtVerifier::Start(std::move(options));
  }
  void Publish(absl::StatusOr<std::string> keys) {
    MutexLock lock(&mu_);
    keys_ = std::move(keys);
  }
  // Returns when what was published before the call is in use.
  void WaitForTwoReads() {
    MutexLock lock(&mu_);
    const int until = reads_ + 2;
    while (reads_ < until) read_.Wait(&mu_);
  }

  const TokenSigner old_ = TokenSigner::Make("ES256", "old");
  const TokenSigner new_ = TokenSigner::Make("ES256", "new");
  Mutex mu_;
  CondVar read_;
  absl::StatusOr<std::string> keys_ ABSL_GUARDED_BY(mu_) = KeySetOf({&old_});
  int reads_ ABSL_GUARDED_BY(mu_) = 0;
};

TEST_F(JwtVerifierTest, AnUnknownKeyMakesItLookForNewOnes) {
  const auto verifier = Start();
  EXPECT_TRUE(verifier->Verify(old_.Sign(GoodClaims()), TestNow()).ok());
  Publish(KeySetOf({&new_}));
  const std::string token = new_.Sign(GoodClaims());
  absl::StatusOr<JwtIdentity> identity = verifier->Verify(token, TestNow());
  EXPECT_TRUE(absl::IsNotFound(identity.status()));
  while (absl::IsNotFound(identity.status())) {
    absl::SleepFor(absl::Milliseconds(1));
    identity = verifier->Verify(token, TestNow());
  }
  EXPECT_TRUE(identity.ok()) << identity.status();
  // What was remembered went with the key that had signed it.
  EXPECT_TRUE(absl::IsNotFound(verifier->Verify(old_.Sign(GoodClaims()), TestNow()).status()));
}

TEST_F(JwtVerifierTest, WhatIsRememberedEndsWithItsTime) {
  const auto verifier = Start();
  const std::string token = old_.Sign(GoodClaims());
  EXPECT_TRUE(verifier->Verify(token, TestNow()).ok());
  EXPECT_TRUE(verifier->Verify(token, TestNow() + absl::Minutes(59)).ok());
  const auto late = verifier->Verify(token, TestNow() + absl::Hours(2));
  EXPECT_THAT(std::string(late.status().message()), HasSubstr("expired"));
}

TEST_F(JwtVerifierTest, WithoutKeysNobodyIsBelievedUntilTheyCome) {
  Publish(absl::UnavailableError("no way to the issuer"));
  const auto verifier = Start(absl::Milliseconds(1));
  const std::string token = old_.Sign(GoodClaims());
  EXPECT_TRUE(absl::IsUnavailable(verifier->Verify(token, TestNow()).status()));
  EXPECT_THAT(std::string(verifier->problem().message()), HasSubstr("no way to the issuer"));
  Publish(KeySetOf({&old_}));
  WaitForTwoReads();
  EXPECT_TRUE(verifier->Verify(token, TestNow()).ok());
  EXPECT_TRUE(verifier->problem().ok());
}

TEST_F(JwtVerifierTest, GoodKeysStayWhenNewOnesAreNone) {
  const auto verifier = Start(absl::Milliseconds(1));
  Publish(std::string("<html>"));
  WaitForTwoReads();
  EXPECT_TRUE(verifier->Verify(old_.Sign(GoodClaims()), TestNow()).ok());
  EXPECT_THAT(std::string(verifier->problem().message()), HasSubstr("no JSON Web Key Set"));
}

}  // namespace
}  // namespace tandem
