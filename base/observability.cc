#include "base/observability.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {
namespace {

HttpResponse ReadyPage(const Readiness& readiness) {
  const std::map<std::string, std::string> reasons = readiness.reasons();
  const nlohmann::ordered_json json = {{"ready", reasons.empty()}, {"reasons", reasons}};
  return {.status = reasons.empty() ? 200 : 503,
          .content_type = "application/json",
          .body = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"};
}

HttpResponse HealthPage(const std::function<absl::Status()>& alive) {
  const absl::Status status = alive ? alive() : absl::OkStatus();
  if (status.ok()) return {.body = "ok\n"};
  return {.status = 503, .body = absl::StrCat(status.message(), "\n")};
}

}  // namespace

void Readiness::Tell() {
  std::function<void(bool ready)> follower;  // set while this thread is the one that tells
  while (true) {
    bool ready = false;
    {
      MutexLock lock(&mu_);
      if (follower != nullptr) {
        telling_ = false;
        told_one_.NotifyAll();
      }
      ready = reasons_.empty();
      if (telling_ || follower_ == nullptr || told_ == ready) return;
      telling_ = true;
      told_ = ready;
      follower = follower_;
    }
    follower(ready);
  }
}

bool Readiness::Block(const std::string& part, const std::string& reason) {
  bool was_ready = false;
  {
    MutexLock lock(&mu_);
    was_ready = reasons_.insert_or_assign(part, reason).second;
  }
  Tell();
  return was_ready;
}

void Readiness::Follow(std::function<void(bool ready)> follower) {
  {
    MutexLock lock(&mu_);
    while (telling_) told_one_.Wait(&mu_);
    follower_ = std::move(follower);
    told_.reset();
  }
  Tell();
}

void Readiness::Clear(const std::string& part) {
  {
    MutexLock lock(&mu_);
    reasons_.erase(part);
  }
  Tell();
}

std::map<std::string, std::string> Readiness::reasons() const {
  MutexLock lock(&mu_);
  return reasons_;
}

absl::StatusOr<std::unique_ptr<HttpServer>> ServeObservability(
    const std::string& listen, const MetricRegistry* registry, const Readiness* readiness,
    std::function<absl::Status()> alive) {
  HttpServer::Options options;
  options.listen = listen;
  std::map<std::string, HttpServer::Page> pages;
  pages["/metrics"] = [registry]() -> HttpResponse {
    return {.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = registry->Text()};
  };
  pages["/healthz"] = [alive = std::move(alive)] { return HealthPage(alive); };
  pages["/readyz"] = [readiness] { return ReadyPage(*readiness); };
  auto server = HttpServer::Start(options, std::move(pages));
  if (!server.ok()) return Annotate(server.status(), "observability.listen");
  return server;
}

}  // namespace tandem
