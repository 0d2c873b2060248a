#include "worker/engine/guide_pool.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/log.h"
#include "base/status.h"

namespace tandem {
namespace {

absl::string_view FieldOf(GrammarSource::Kind kind) {
  switch (kind) {
    case GrammarSource::Kind::kJsonSchema:
      return "guided.json_schema";
    case GrammarSource::Kind::kRegex:
      return "guided.regex";
    case GrammarSource::Kind::kLark:
      return "guided.ebnf";
    case GrammarSource::Kind::kChoice:
      return "guided.choice";
  }
  return "guided";
}

// A token that ends the sentence is not among those behind which an output goes on.
absl::Status GoBehind(const GivenTokens& given, absl::string_view field, GrammarMatcher* matcher) {
  for (size_t i = 0; i < given.tokens.size(); ++i) {
    const absl::StatusOr<bool> over = matcher->Consume({given.tokens[i]});
    if (over.ok() && !*over) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("resume: token ", i, " of output ", given.output_index,
                     over.ok() ? " ends" : " does not continue", " a sentence of ", field));
  }
  return absl::OkStatus();
}

}  // namespace

GuidePool::GuidePool(absl::string_view tokenizer_json, int32_t logits, Options options)
    : tokenizer_json_(tokenizer_json), logits_(logits), options_(options) {
  if (!options_.threads) return;
  compiling_ = std::thread([this] {
    while (!jobs_.closed()) {
      for (Job& job : jobs_.PopAll(absl::InfiniteDuration())) {
        if (!jobs_.closed()) Run(job);
      }
    }
  });
  masking_ = std::thread([this] {
    while (!masks_.closed()) {
      for (const auto& guide : masks_.PopAll(absl::InfiniteDuration())) guide->ComputeIfQueued();
    }
  });
}

GuidePool::~GuidePool() {
  jobs_.Close();
  masks_.Close();
  if (compiling_.joinable()) compiling_.join();
  if (masking_.joinable()) masking_.join();
}

std::vector<std::shared_ptr<Guide>> GuidePool::Begin(const GrammarSource& source,
                                                     const std::vector<int32_t>& stop_ids,
                                                     std::vector<GivenTokens> given,
                                                     absl::AnyInvocable<void(absl::Status)> done) {
  std::vector<std::shared_ptr<Guide>> guides;
  while (guides.size() < given.size()) {
    guides.push_back(std::make_shared<Guide>(this, FieldOf(source.kind), stop_ids));
  }
  Job job = {source, std::move(given), {guides.begin(), guides.end()}, std::move(done)};
  if (!options_.threads) {
    Run(job);
  } else if (!jobs_.TryPush(std::move(job))) {
    job.done(absl::UnavailableError("too many grammars wait to be compiled"));
  }
  return guides;
}

void GuidePool::Run(Job& job) {
  if (job.guides[0].expired()) return;
  const absl::Status status = Prepare(job);
  job.done(status);
  if (!status.ok() || !options_.threads) return;
  // The first mask is needed as soon as the prompt is computed.
  for (const std::weak_ptr<Guide>& one : job.guides) {
    if (const std::shared_ptr<Guide> guide = one.lock()) guide->ComputeIfQueued();
  }
}

absl::Status GuidePool::Prepare(const Job& job) {
  const absl::string_view field = FieldOf(job.source.kind);
  const absl::StatusOr<std::shared_ptr<const Grammar>> grammar = Compile(job.source);
  if (!grammar.ok()) return Annotate(grammar.status(), field);
  for (size_t i = 0; i < job.given.size(); ++i) {
    absl::StatusOr<std::unique_ptr<GrammarMatcher>> matcher = GrammarMatcher::Create(*grammar);
    if (!matcher.ok()) return Annotate(matcher.status(), field);
    RETURN_IF_ERROR(GoBehind(job.given[i], field, matcher->get()));
    if (const std::shared_ptr<Guide> guide = job.guides[i].lock()) {
      guide->Start(*std::move(matcher));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Grammar>> GuidePool::Compile(const GrammarSource& source) {
  const auto known = std::find_if(cache_.begin(), cache_.end(),
                                  [&](const Cached& cached) { return cached.source == source; });
  if (known != cache_.end()) {
    std::rotate(cache_.begin(), known, known + 1);
    if (options_.metrics != nullptr) options_.metrics->reused.Add();
    return cache_.front().grammar;
  }
  if (!environment_) environment_ = Load();
  RETURN_IF_ERROR(environment_->status());
  const absl::Time start = absl::Now();
  absl::StatusOr<std::shared_ptr<const Grammar>> compiled = (**environment_)->Compile(source);
  if (options_.metrics != nullptr) {
    (compiled.ok() ? options_.metrics->compiled : options_.metrics->failed).Add();
    options_.metrics->compile.Observe(absl::Now() - start);
  }
  ASSIGN_OR_RETURN(std::shared_ptr<const Grammar> grammar, std::move(compiled));
  cache_.push_front({source, grammar});
  if (cache_.size() > kCached) cache_.pop_back();
  return grammar;
}

absl::StatusOr<std::shared_ptr<const GrammarEnvironment>> GuidePool::Load() const {
  const absl::Time start = absl::Now();
  const auto load = [this]() -> absl::StatusOr<std::shared_ptr<const GrammarEnvironment>> {
    ASSIGN_OR_RETURN(const std::shared_ptr<const Tokenizer> tokenizer,
                     Tokenizer::FromJson(tokenizer_json_));
    return GrammarEnvironment::Create(*tokenizer, logits_);
  };
  auto environment = load();
  if (!environment.ok()) {
    LogError("no grammar can be followed", {{"error", environment.status()}});
    return absl::FailedPreconditionError(environment.status().message());
  }
  LogInfo("the tokenizer is loaded for grammars", {{"seconds", absl::Now() - start}});
  return environment;
}

void GuidePool::OnMask(absl::Duration took) const {
  if (options_.metrics != nullptr) options_.metrics->mask.Observe(took);
}

void GuidePool::ComputeSoon(Guide* guide) {
  // Where the queue is full the engine computes the mask itself, when it needs it.
  if (options_.threads) (void)masks_.TryPush(guide->shared_from_this());
}

}  // namespace tandem
