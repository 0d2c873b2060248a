// Tokens of an identity provider: what is honoured, and every way in which one may lie.
#include "router/auth/jwt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "tests/router/auth/token_fixture.h"

namespace tandem {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

JwtPolicy Policy(std::vector<SignatureAlgorithm> algorithms = {
                     SignatureAlgorithm::kRs256, SignatureAlgorithm::kPs256,
                     SignatureAlgorithm::kEs256, SignatureAlgorithm::kEs384,
                     SignatureAlgorithm::kEdDsa}) {
  JwtPolicy policy;
  policy.issuer = kTestIssuer;
  policy.audience = kTestAudience;
  policy.algorithms = std::move(algorithms);
  return policy;
}

class Jwt : public ::testing::Test {
 protected:
  absl::StatusOr<JwtIdentity> Verify(absl::string_view token, const JwtPolicy& policy = Policy(),
                                     absl::Time now = TestNow()) const {
    return VerifyJwt(token, keys_, policy, now);
  }
  std::string Why(absl::string_view token) const {
    const auto result = Verify(token);
    EXPECT_TRUE(absl::IsUnauthenticated(result.status())) << result.status();
    return std::string(result.status().message());
  }
  // Why a token with this claim is not honoured; null: without it.
  std::string WhyNot(const std::string& claim, const json& value) const {
    json claims = GoodClaims();
    value.is_null() ? void(claims.erase(claim)) : void(claims[claim] = value);
    return Why(signer_.Sign(claims));
  }

  const TokenSigner signer_ = TokenSigner::Make("ES256", "one");
  const TokenSigner other_ = TokenSigner::Make("RS256", "two");
  const JwkSet keys_ = *JwkSet::Parse(KeySetOf({&signer_, &other_}));
};

TEST_F(Jwt, AGoodOneSaysWhoseItIs) {
  json claims = GoodClaims();
  claims["tandem_models"] = {"kimi-k2", "llama"};
  const auto identity = Verify(signer_.Sign(claims));
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_EQ(identity->subject, "user-7");
  EXPECT_EQ(identity->product_id, "chat");
  EXPECT_EQ(identity->organisation_id, "");
  EXPECT_THAT(identity->models, ElementsAre("kimi-k2", "llama"));
  EXPECT_EQ(identity->expires, TestNow() + absl::Hours(1));
}

TEST_F(Jwt, EveryAlgorithmOfTheListIsHonoured) {
  for (const char* name : {"RS256", "PS256", "ES256", "ES384", "EdDSA"}) {
    const TokenSigner signer = TokenSigner::Make(name, "k");
    const auto keys = JwkSet::Parse(KeySetOf({&signer}));
    ASSERT_TRUE(keys.ok()) << name << keys.status();
    const auto identity = VerifyJwt(signer.Sign(GoodClaims()), *keys, Policy(), TestNow());
    EXPECT_TRUE(identity.ok()) << name << identity.status();
  }
}

TEST_F(Jwt, WhatOthersHaveSignedIsRead) {  // RFC 7515, appendix A.3
  const auto keys = JwkSet::Parse(R"({"keys": [{"kty": "EC", "crv": "P-256",
      "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
      "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]})");
  ASSERT_TRUE(keys.ok()) << keys.status();
  const absl::string_view text =
      "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt"
      "cGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
  std::string signature;
  ASSERT_TRUE(absl::WebSafeBase64Unescape(
      "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
      &signature));
  const Jwk& key = *keys->Find("", SignatureAlgorithm::kEs256).at(0);
  EXPECT_TRUE(IsSignedBy(key, SignatureAlgorithm::kEs256, text, signature));
  EXPECT_FALSE(IsSignedBy(key, SignatureAlgorithm::kEs256, absl::StrCat(text, "A"), signature));
  EXPECT_FALSE(IsSignedBy(key, SignatureAlgorithm::kEs384, text, signature));
  EXPECT_FALSE(IsSignedBy(key, SignatureAlgorithm::kEs256, text, ""));
}

TEST_F(Jwt, NoneIsNoAlgorithm) {
  const std::vector<std::string> parts = absl::StrSplit(signer_.Sign(GoodClaims()), '.');
  for (const char* name : {"none", "None", "NONE", "nOnE", ""}) {
    const std::string header = absl::WebSafeBase64Escape(json{{"alg", name}}.dump());
    EXPECT_THAT(Why(absl::StrCat(header, ".", parts[1], ".")), HasSubstr("algorithm"));
    EXPECT_THAT(Why(absl::StrCat(header, ".", parts[1], ".", parts[2])), HasSubstr("algorithm"));
  }
  EXPECT_THAT(Why(absl::StrCat(absl::WebSafeBase64Escape("{}"), ".", parts[1], ".", parts[2])),
              HasSubstr("algorithm"));
}

TEST_F(Jwt, APublicKeyIsNoSecretToSignWith) {
  for (const std::string& secret : {other_.PublicPem(), other_.Jwk().dump()}) {
    const json header = {{"alg", "HS256"}, {"kid", "two"}};
    EXPECT_THAT(Why(HmacSigned(header, GoodClaims(), secret)), HasSubstr("algorithm"));
  }
}

TEST_F(Jwt, AnAlgorithmHasToBeAllowedAndTheKeys) {
  const auto only_rsa = Verify(signer_.Sign(GoodClaims()), Policy({SignatureAlgorithm::kRs256}));
  EXPECT_THAT(std::string(only_rsa.status().message()), HasSubstr("not allowed here"));
  // The header says RS256 and names a key on a curve.
  const std::string confused = signer_.Sign({{"alg", "RS256"}, {"kid", "one"}}, GoodClaims());
  EXPECT_TRUE(absl::IsNotFound(Verify(confused).status()));
}

TEST_F(Jwt, OnlyItsIssuersSignatureIsBelieved) {
  const TokenSigner stranger = TokenSigner::Make("ES256", "one");
  EXPECT_THAT(Why(stranger.Sign(GoodClaims())), HasSubstr("signature"));
  EXPECT_TRUE(absl::IsNotFound(
      Verify(signer_.Sign({{"alg", "ES256"}, {"kid", "three"}}, GoodClaims())).status()));
  // A token that names no key is tried with all that could have made it.
  EXPECT_TRUE(Verify(signer_.Sign({{"alg", "ES256"}}, GoodClaims())).ok());
}

TEST_F(Jwt, NoByteOfItMayChange) {
  const std::string token = signer_.Sign(GoodClaims());
  for (size_t i = 0; i < token.size(); ++i) {
    std::string changed = token;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    EXPECT_FALSE(Verify(changed).ok()) << "at " << i;
    EXPECT_FALSE(Verify(absl::string_view(token).substr(0, i)).ok()) << "up to " << i;
  }
  for (const char* more : {".", "=", " ", "\n", "A", ".e30"}) {
    EXPECT_FALSE(Verify(absl::StrCat(token, more)).ok()) << more;
    EXPECT_FALSE(Verify(absl::StrCat(more, token)).ok()) << more;
  }
}

TEST_F(Jwt, ItHasToBeFromThisIssuerForThisService) {
  EXPECT_THAT(WhyNot("iss", "https://login.example.com"), HasSubstr("another issuer"));
  EXPECT_THAT(WhyNot("iss", nullptr), HasSubstr("another issuer"));
  EXPECT_THAT(WhyNot("iss", 7), HasSubstr("claim iss is not a string"));
  EXPECT_THAT(WhyNot("aud", "elsewhere"), HasSubstr("another service"));
  EXPECT_THAT(WhyNot("aud", nullptr), HasSubstr("another service"));
  EXPECT_THAT(WhyNot("aud", json::array()), HasSubstr("another service"));
  json claims = GoodClaims();
  claims["aud"] = {"elsewhere", kTestAudience};
  EXPECT_TRUE(Verify(signer_.Sign(claims)).ok());
}

TEST_F(Jwt, ItHasItsTime) {
  const int64_t now = absl::ToUnixSeconds(TestNow());
  EXPECT_THAT(WhyNot("exp", nullptr), HasSubstr("never ends"));
  EXPECT_THAT(WhyNot("exp", "soon"), HasSubstr("no time"));
  EXPECT_THAT(WhyNot("exp", 1e300), HasSubstr("no time"));
  EXPECT_THAT(WhyNot("exp", now - 31), HasSubstr("expired at 2027-01-15"));
  EXPECT_THAT(WhyNot("nbf", now + 31), HasSubstr("not good before"));
  EXPECT_THAT(WhyNot("iat", now + 31), HasSubstr("not good before"));
  json claims = GoodClaims();
  claims.update({{"exp", now - 29}, {"nbf", now + 29.5}, {"iat", now + 29}});
  EXPECT_TRUE(Verify(signer_.Sign(claims)).ok()) << "clocks may differ by 30 s";
}

TEST_F(Jwt, ItSaysWhoseItIsOnceAndOfTheRightType) {
  EXPECT_THAT(WhyNot("sub", nullptr), HasSubstr("claim sub"));
  EXPECT_THAT(WhyNot("sub", std::string(257, 's')), HasSubstr("claim sub"));
  EXPECT_THAT(WhyNot("tandem_product", nullptr), HasSubstr("either claim tandem_product or"));
  EXPECT_THAT(WhyNot("tandem_organisation", "acme"), HasSubstr("either claim tandem_product or"));
  EXPECT_THAT(WhyNot("tandem_product", {"chat"}), HasSubstr("tandem_product is not a string"));
  EXPECT_THAT(WhyNot("tandem_models", json::array()), HasSubstr("tandem_models"));
  EXPECT_THAT(WhyNot("tandem_models", "kimi"), HasSubstr("tandem_models"));
  EXPECT_THAT(WhyNot("tandem_models", {"kimi", 7}), HasSubstr("tandem_models"));
}

TEST_F(Jwt, AnExtensionThatMustBeUnderstoodIsNot) {
  const json header = {{"alg", "ES256"}, {"kid", "one"}, {"crit", {"exp"}}};
  EXPECT_THAT(Why(signer_.Sign(header, GoodClaims())), HasSubstr("critical extensions"));
}

TEST_F(Jwt, NonsenseIsRefusedWithoutItsText) {
  const std::string deep = std::string(5000, '[') + std::string(5000, ']');
  for (const std::string& text :
       {std::string(), std::string("."), std::string(".."), std::string("a.b.c"),
        std::string(1 << 20, 'e'), absl::WebSafeBase64Escape(deep) + ".e30.AA",
        std::string("eyJhbGciOiJFUzI1NiJ9..")}) {
    const auto result = Verify(text);
    EXPECT_FALSE(result.ok());
    EXPECT_EQ(result.status().message().find("eyJ"), absl::string_view::npos);
  }
  EXPECT_TRUE(LooksLikeJwt(signer_.Sign(GoodClaims())));
  EXPECT_FALSE(LooksLikeJwt("tdm_a_b.c.d"));
}

TEST(JwkSetText, HasToBeOneAndHoldAKeyThatIsGoodEnough) {
  const auto why = [](absl::string_view text) {
    return std::string(JwkSet::Parse(text).status().message());
  };
  EXPECT_THAT(why("{"), HasSubstr("no JSON Web Key Set"));
  EXPECT_THAT(why("[]"), HasSubstr("no JSON Web Key Set"));
  EXPECT_THAT(why(R"({"keys": {}})"), HasSubstr("no JSON Web Key Set"));
  EXPECT_THAT(why(std::string((1 << 20) + 1, ' ')), HasSubstr("at most 1048576"));
  EXPECT_THAT(why(R"({"keys": []})"), HasSubstr("none of 0 keys"));
  const TokenSigner weak = TokenSigner::Make("RS256", "weak", 1024);
  EXPECT_THAT(why(KeySetOf({&weak})), HasSubstr("RSA of 2048 bits or more"));
  const TokenSigner good = TokenSigner::Make("ES256", "good");
  json jwk = good.Jwk();
  jwk["y"] = jwk["x"];  // a point that is not on the curve
  EXPECT_THAT(why(json{{"keys", {jwk}}}.dump()), HasSubstr("none of 1 keys"));
  json encryption = good.Jwk();
  encryption["use"] = "enc";
  EXPECT_THAT(why(json{{"keys", {encryption, {{"kty", "oct"}, {"k", "AAAA"}}, 7}}}.dump()),
              HasSubstr("none of 3 keys"));
  EXPECT_EQ(JwkSet::Parse(KeySetOf({&weak, &good}))->size(), 1u);
}

}  // namespace
}  // namespace tandem
