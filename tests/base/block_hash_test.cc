#include "base/block_hash.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace tandem {
namespace {

TEST(Sha256, AgreesWithThePublishedVectors) {  // FIPS 180-4
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256, PiecesGiveTheDigestOfTheWhole) {
  const std::vector<uint8_t> bytes(100'000, 7);
  Sha256Stream stream;
  for (size_t at = 0, step = 1; at < bytes.size(); at += step, step = step * 2 + 1) {
    stream.Update(absl::MakeConstSpan(bytes).subspan(at, step));
  }
  EXPECT_EQ(stream.Finish(), Sha256(bytes));
}

TEST(Sha256, FieldsDoNotRunTogether) {
  Sha256Stream a, b;
  a.UpdateField("ab"), a.UpdateField("c");
  b.UpdateField("a"), b.UpdateField("bc");
  EXPECT_NE(a.Finish(), b.Finish());
}

TEST(BlockKey, DiffersWithEverythingThatGoesIn) {
  const std::vector<int32_t> tokens = {1, 2, 3};
  const BlockKey root = RootBlockKey("abi", "tenant", "salt");
  const std::set<BlockKey> keys = {
      root,
      RootBlockKey("abi2", "tenant", "salt"),
      RootBlockKey("abi", "tenant2", "salt"),
      RootBlockKey("abi", "tenant", "salt2"),
      RootBlockKey("abi", "tenants", "alt"),
      ChainBlockKey(root, tokens),
      ChainBlockKey(root, {1, 2}),
      ChainBlockKey(root, {1, 2, -3}),
      ChainBlockKey(root, {2, 1, 3}),
      ChainBlockKey(root, tokens, "lora"),
      ChainBlockKey(ChainBlockKey(root, tokens), tokens),
      ChainBlockKey(RootBlockKey("abi", "tenant", ""), tokens),
  };
  EXPECT_EQ(keys.size(), 12);
  EXPECT_EQ(ChainBlockKey(root, tokens), ChainBlockKey(root, tokens));
}

// Workers of different builds share blocks by key, so the encoding may never change unnoticed.
TEST(BlockKey, KeepsItsEncoding) {
  const BlockKey key = ChainBlockKey(RootBlockKey("abi", "tenant", "salt"), {1, 2, 3});
  EXPECT_EQ(ToHex(key.bytes), "0ce9652cdae778df684ccfb1f2d98ce0");
}

TEST(PayloadDigest, AgreesWithThePublishedVectorAndSeesEveryByte) {
  EXPECT_EQ(ToHex(PayloadDigest({})), "99aa06d3014798d86001c324468d497f");  // XXH3-128 of nothing
  std::vector<uint8_t> bytes(1000, 1);
  std::set<std::array<uint8_t, 16>> seen = {PayloadDigest(bytes)};
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] ^= 1;
    seen.insert(PayloadDigest(bytes));
    bytes[i] ^= 1;
  }
  EXPECT_EQ(seen.size(), 1001);
}

}  // namespace
}  // namespace tandem
