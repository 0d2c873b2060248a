#include "router/auth/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "router/auth/key_ring.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

TEST(TokenIdentity, BecomesAUserOrAManager) {
  const Principal user = PrincipalOf({.subject = "u", .product_id = "chat", .models = {"m"}}, "i");
  EXPECT_EQ(user.kind, KeyKind::kUser);
  EXPECT_EQ(user.product_id, "chat");
  EXPECT_TRUE(user.Allows("m"));
  EXPECT_FALSE(user.Allows("n"));
  const Principal manager = PrincipalOf({.subject = "u", .organisation_id = "acme"}, "i");
  EXPECT_EQ(manager.kind, KeyKind::kManagement);
  EXPECT_EQ(manager.organisation_id, "acme");
  EXPECT_FALSE(manager.Allows("m"));
  EXPECT_EQ(PrincipalOf({.subject = "u", .organisation_id = "*"}, "i").organisation_id, "");
}

TEST(TokenIdentity, HasAnIdOfIssuerAndSubjectThatFitsAKeys) {
  const std::string id = PrincipalOf({.subject = "a b\n", .product_id = "chat"}, "i").key_id;
  EXPECT_THAT(id, ::testing::MatchesRegex("jwt-[0-9a-f]+"));
  EXPECT_EQ(id.size(), 36u);
  EXPECT_EQ(id, PrincipalOf({.subject = "a b\n", .product_id = "other"}, "i").key_id);
  EXPECT_NE(id, PrincipalOf({.subject = "a b\n", .product_id = "chat"}, "j").key_id);
}

TEST(CertificateIdentity, IsFoundByAnyOfItsNames) {
  const auto names = CertificateNames::Create({{"spiffe://acme/app", "product/chat"},
                                               {"app.acme.example", "product/chat"},
                                               {"ops.acme.example", "organisation/acme"},
                                               {"root.example", "cluster"}});
  ASSERT_TRUE(names.ok()) << names.status();
  EXPECT_EQ(names->Find({"10.0.0.1", "spiffe://acme/app", "app.acme.example"})->product_id, "chat");
  EXPECT_EQ(names->Find({"ops.acme.example"})->organisation_id, "acme");
  EXPECT_EQ(names->Find({"root.example"})->kind, KeyKind::kManagement);
  EXPECT_TRUE(absl::IsNotFound(names->Find({}).status()));
  EXPECT_TRUE(absl::IsNotFound(names->Find({"acme.example"}).status()));
  const auto both = names->Find({"app.acme.example", "ops.acme.example"});
  EXPECT_TRUE(absl::IsUnauthenticated(both.status()));
  EXPECT_THAT(std::string(both.status().message()), HasSubstr("different principals"));
}

TEST(CertificateIdentity, SaysWhichEntryIsWrong) {
  for (const char* target : {"", "chat", "product/", "organisation/", "product", "Cluster"}) {
    const auto names = CertificateNames::Create({{"app.example", target}});
    EXPECT_THAT(std::string(names.status().message()), HasSubstr("app.example: want product/ID"));
  }
}

TEST(CertificateIdentity, IsHonouredWhileItsProductIs) {
  KeyRing ring;
  const Principal user{.product_id = "chat", .key_id = "mtls-1"};
  EXPECT_TRUE(absl::IsUnauthenticated(ring.Complete(user).status()));
  Changes changes;
  changes.records = {Organisation{.id = "acme"}, Product{.id = "chat", .organisation_id = "acme"}};
  ring.Apply(changes);
  EXPECT_EQ(ring.Complete(user)->organisation_id, "acme");
  changes.records = {Product{.id = "chat", .organisation_id = "acme", .disabled = true}};
  ring.Apply(changes);
  EXPECT_THAT(std::string(ring.Complete(user).status().message()), HasSubstr("chat is disabled"));
  EXPECT_TRUE(ring.Complete({.kind = KeyKind::kManagement}).ok());
}

}  // namespace
}  // namespace tandem
