#include "router/auth/jwt_verifier.h"

#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"
#include "base/thread.h"

namespace tandem {
namespace {

Sha256Digest DigestOf(absl::string_view text) {
  return Sha256({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

}  // namespace

absl::StatusOr<std::unique_ptr<JwtVerifier>> JwtVerifier::Start(Options options) {
  auto out = std::unique_ptr<JwtVerifier>(new JwtVerifier(std::move(options)));
  out->Refresh();
  ASSIGN_OR_RETURN(out->thread_,
                   StartThread("a token issuer's keys", [self = out.get()] { self->Run(); }));
  return out;
}

JwtVerifier::~JwtVerifier() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  if (thread_.joinable()) thread_.join();
}

void JwtVerifier::Refresh() {
  absl::StatusOr<std::string> text = options_.read_keys();
  absl::Status problem = text.status();
  std::shared_ptr<const JwkSet> fresh;
  if (text.ok() && *text != text_) {
    absl::StatusOr<JwkSet> parsed = JwkSet::Parse(*text);
    problem = parsed.status();
    if (parsed.ok()) {
      fresh = std::make_shared<const JwkSet>(*std::move(parsed));
      text_ = *std::move(text);
    }
  }
  const size_t count = fresh == nullptr ? 0 : fresh->size();
  bool news = false;
  {
    MutexLock lock(&mu_);
    asked_ = false;
    news = problem != problem_;
    problem_ = problem;
    if (fresh != nullptr) {
      keys_ = std::move(fresh);
      remembered_.clear();
    }
  }
  if (count > 0) LogInfo("a token issuer's keys are used", {{"keys", count}});
  if (news && !problem.ok()) LogWarning("a token issuer's keys are not read", {{"error", problem}});
}

void JwtVerifier::Run() {
  while (WaitUntilDue()) Refresh();
}

bool JwtVerifier::WaitUntilDue() {
  const absl::Time last = RealClock()->Now();
  MutexLock lock(&mu_);
  while (!stopping_) {
    const absl::Time due = last + (asked_ ? options_.refresh_min : options_.refresh);
    const absl::Time now = RealClock()->Now();
    if (now >= due) return true;
    wake_.WaitFor(&mu_, due - now);
  }
  return false;
}

void JwtVerifier::AskForNewKeys() {
  MutexLock lock(&mu_);
  asked_ = true;
  wake_.NotifyAll();
}

absl::Status JwtVerifier::problem() const {
  MutexLock lock(&mu_);
  return problem_;
}

absl::StatusOr<JwtIdentity> JwtVerifier::Verify(absl::string_view text, absl::Time now) {
  const Sha256Digest digest = DigestOf(text);
  std::shared_ptr<const JwkSet> keys;
  {
    MutexLock lock(&mu_);
    const auto known = remembered_.find(digest);
    if (known != remembered_.end() && now < known->second.expires) return known->second;
    keys = keys_;
  }
  if (keys == nullptr) {
    return absl::UnavailableError("the keys of the token's issuer are not known yet");
  }
  absl::StatusOr<JwtIdentity> identity = VerifyJwt(text, *keys, options_.policy, now);
  if (identity.ok()) Remember(digest, *identity, keys);
  if (absl::IsNotFound(identity.status())) AskForNewKeys();
  return identity;
}

void JwtVerifier::Remember(const Sha256Digest& token, JwtIdentity identity,
                           const std::shared_ptr<const JwkSet>& keys) {
  MutexLock lock(&mu_);
  if (keys != keys_) return;  // replaced meanwhile
  if (remembered_.size() >= options_.remembered_max) remembered_.clear();
  remembered_.insert_or_assign(token, std::move(identity));
}

}  // namespace tandem
