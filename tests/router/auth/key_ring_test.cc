#include "router/auth/key_ring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "router/auth/api_key.h"
#include "tests/router/store/store_records.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;
constexpr absl::StatusCode kUnauthenticated = absl::StatusCode::kUnauthenticated;

class KeyRingTest : public testing::Test {
 protected:
  KeyRingTest() {
    key_.secrets = {{SecretDigest(first_), TestTime(), {}}};
    Apply({TestOrganisation("acme"), TestProduct("chat", "acme"), key_});
  }
  void Apply(std::vector<Record> records) { ring_.Apply({std::move(records), ++revision_}); }
  absl::StatusOr<Principal> Try(const ApiKey& key, absl::Time now = TestTime()) {
    return ring_.Authenticate(TextOf(key), now);
  }

  const ApiKey first_ = NewApiKey("k1"), second_ = NewApiKey("k1");
  Key key_ = TestKey("k1", "chat");
  KeyRing ring_;
  int64_t revision_ = 0;
};

TEST_F(KeyRingTest, AKeyStandsForItsProductAndOrganisation) {
  ASSERT_OK_AND_ASSIGN(const Principal principal, Try(first_));
  EXPECT_EQ(principal.kind, KeyKind::kUser);
  EXPECT_EQ(principal.organisation_id, "acme");
  EXPECT_EQ(principal.product_id, "chat");
  EXPECT_EQ(principal.key_id, "k1");
  EXPECT_EQ(ring_.revision(), 1);
}

TEST_F(KeyRingTest, UnknownIdsAndWrongSecretsAreToldTheSame) {
  const absl::Status wrong = Try(second_).status(), unknown = Try(NewApiKey("k2")).status();
  EXPECT_THAT(wrong, StatusIs(kUnauthenticated, "this API key is not valid"));
  EXPECT_EQ(wrong, unknown);
  EXPECT_THAT(ring_.Authenticate("Bearer me", TestTime()),
              StatusIs(kUnauthenticated, HasSubstr("tdm_<id>_<secret>")));
}

TEST_F(KeyRingTest, ASecretThatNobodyHasOpensNothing) {
  key_.secrets.clear();
  Apply({key_});
  EXPECT_THAT(Try(first_), StatusIs(kUnauthenticated));
  key_.secrets = {{Sha256Digest{}, TestTime(), {}}};
  Apply({key_});
  EXPECT_THAT(Try(first_), StatusIs(kUnauthenticated));
}

TEST_F(KeyRingTest, TwoSecretsAreGoodWhileOneReplacesTheOther) {
  key_.secrets[0].expires = TestTime() + absl::Hours(1);
  key_.secrets.push_back({SecretDigest(second_), TestTime(), {}});
  Apply({key_});
  EXPECT_THAT(Try(first_), IsOk());
  EXPECT_THAT(Try(second_), IsOk());
  EXPECT_THAT(Try(first_, TestTime() + absl::Hours(1)),
              StatusIs(kUnauthenticated, HasSubstr("key k1 expired at 2026-11-23T13:00:00")));
  EXPECT_THAT(Try(second_, TestTime() + absl::Hours(1)), IsOk());
}

TEST_F(KeyRingTest, WhoHasTheSecretIsToldWhatIsWrongWithTheKey) {
  key_.expires = TestTime();
  Apply({key_});
  EXPECT_THAT(Try(first_, TestTime() - absl::Microseconds(1)), IsOk());
  EXPECT_THAT(Try(first_), StatusIs(kUnauthenticated, HasSubstr("key k1 expired at ")));
  EXPECT_THAT(Try(second_), StatusIs(kUnauthenticated, "this API key is not valid"));
  key_.expires.reset();
  key_.revoked_at = TestTime();
  Apply({key_});
  EXPECT_THAT(Try(first_), StatusIs(kUnauthenticated, HasSubstr("key k1 was revoked at ")));
  EXPECT_THAT(Try(second_), StatusIs(kUnauthenticated, "this API key is not valid"));
}

TEST_F(KeyRingTest, ADisabledOwnerClosesAllItsKeys) {
  Product product = TestProduct("chat", "acme");
  product.disabled = true;
  Apply({product});
  EXPECT_THAT(Try(first_), StatusIs(kUnauthenticated, "product chat is disabled"));
  product.disabled = false;
  Organisation organisation = TestOrganisation("acme");
  organisation.disabled = true;
  Apply({product, organisation});
  EXPECT_THAT(Try(first_), StatusIs(kUnauthenticated, "organisation acme is disabled"));
  organisation.disabled = false;
  Apply({organisation});
  EXPECT_THAT(Try(first_), IsOk());
}

TEST_F(KeyRingTest, AManagementKeyIsOfAnOrganisationOrOfTheCluster) {
  const ApiKey key = NewApiKey("root");
  Key root = TestKey("root", "");
  root.kind = KeyKind::kManagement;
  root.secrets = {{SecretDigest(key), TestTime(), {}}};
  Apply({root});
  ASSERT_OK_AND_ASSIGN(Principal principal, Try(key));
  EXPECT_EQ(principal.kind, KeyKind::kManagement);
  EXPECT_EQ(principal.organisation_id, "");
  EXPECT_FALSE(principal.Allows("smol"));
  root.organisation_id = "acme";
  Apply({root});
  ASSERT_OK_AND_ASSIGN(principal, Try(key));
  EXPECT_EQ(principal.organisation_id, "acme");
  root.organisation_id = "gone";
  Apply({root});
  EXPECT_THAT(Try(key), StatusIs(kUnauthenticated));
}

TEST_F(KeyRingTest, AnAllowListNamesTheModels) {
  ASSERT_OK_AND_ASSIGN(Principal principal, Try(first_));
  EXPECT_TRUE(principal.Allows("anything"));
  key_.models = {"smol", "kimi"};
  Apply({key_});
  ASSERT_OK_AND_ASSIGN(principal, Try(first_));
  EXPECT_TRUE(principal.Allows("kimi"));
  EXPECT_FALSE(principal.Allows("kim") || principal.Allows("")) << "names, not patterns";
}

TEST_F(KeyRingTest, CallsGoOnWhileKeysChange) {
  std::atomic<bool> over = false;
  std::thread changes([&] {
    for (int i = 0; i < 200; ++i) {
      key_.models = {std::to_string(i)};
      Apply({key_, TestKey("other" + std::to_string(i), "chat")});
    }
    over = true;
  });
  int calls = 0;
  while (!over || calls == 0) {
    EXPECT_THAT(Try(first_), IsOk());
    ++calls;
  }
  changes.join();
  EXPECT_EQ(ring_.keys(), 201u);
}

}  // namespace
}  // namespace tandem
