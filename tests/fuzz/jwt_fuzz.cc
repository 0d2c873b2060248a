#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "router/auth/jwt.h"

namespace {

using tandem::JwkSet;
using tandem::JwtPolicy;

// RFC 7515, appendix A.3.
constexpr char kKeys[] = R"({"keys": [{"kty": "EC", "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]})";

}  // namespace

// The first line is a token, the rest a set of keys. Nobody has the key of the fixed set, so no
// token is honoured with it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const size_t line = text.find('\n');
  static const JwkSet fixed = *JwkSet::Parse(kKeys);
  JwtPolicy policy;
  policy.issuer = "joe";
  policy.audience = "tandem";
  policy.algorithms = {tandem::SignatureAlgorithm::kRs256, tandem::SignatureAlgorithm::kEs256,
                       tandem::SignatureAlgorithm::kEdDsa};
  const std::string token = text.substr(0, line);
  if (VerifyJwt(token, fixed, policy, absl::UnixEpoch()).ok()) std::abort();
  if (line == std::string::npos) return 0;
  const auto keys = JwkSet::Parse(text.substr(line + 1));
  if (keys.ok()) (void)VerifyJwt(token, *keys, policy, absl::UnixEpoch());
  return 0;
}
