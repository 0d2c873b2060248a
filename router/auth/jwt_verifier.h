#pragma once
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/block_hash.h"
#include "base/mutex.h"
#include "router/auth/jwt.h"

namespace tandem {

// Checks tokens with the keys of their issuer, which a thread of its own reads again and again, so
// that an issuer may change them at any time.
//   life    Start reads the keys once. When that fails, and later, the last good ones are kept and
//           `problem` says why there are no newer ones
//   units   a token that was good is remembered until it ends or the keys change: what it costs to
//           check a signature is paid once
//   errors  as VerifyJwt; Unavailable no keys were read yet
//   threads any; Verify never waits for keys
class JwtVerifier {
 public:
  // The key set's JSON, from a file or an address. Called by one thread at a time.
  using ReadKeys = std::function<absl::StatusOr<std::string>()>;
  struct Options {
    JwtPolicy policy;
    ReadKeys read_keys;
    absl::Duration refresh = absl::Minutes(5);
    // A token whose key is not there makes them read again, but not sooner than this after the last
    // time.
    absl::Duration refresh_min = absl::Seconds(10);
    size_t remembered_max = 8192;  // tokens
  };

  static absl::StatusOr<std::unique_ptr<JwtVerifier>> Start(Options options);
  ~JwtVerifier();
  JwtVerifier(const JwtVerifier&) = delete;
  JwtVerifier& operator=(const JwtVerifier&) = delete;

  absl::StatusOr<JwtIdentity> Verify(absl::string_view text, absl::Time now)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Why the keys are not the newest, or not there.
  absl::Status problem() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  explicit JwtVerifier(Options options) : options_(std::move(options)) {}
  void Refresh() ABSL_LOCKS_EXCLUDED(mu_);
  void Run() ABSL_LOCKS_EXCLUDED(mu_);
  bool WaitUntilDue() ABSL_LOCKS_EXCLUDED(mu_);  // false: it is to stop
  void AskForNewKeys() ABSL_LOCKS_EXCLUDED(mu_);
  void Remember(const Sha256Digest& token, JwtIdentity identity,
                const std::shared_ptr<const JwkSet>& keys) ABSL_LOCKS_EXCLUDED(mu_);

  const Options options_;
  std::string text_;  // the thread's: what keys_ was made from

  mutable Mutex mu_;
  CondVar wake_;
  std::shared_ptr<const JwkSet> keys_ ABSL_GUARDED_BY(mu_);  // null: none yet
  absl::Status problem_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<Sha256Digest, JwtIdentity> remembered_ ABSL_GUARDED_BY(mu_);
  bool asked_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace tandem
