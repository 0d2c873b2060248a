#include "router/api/model_catalog.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/status.h"
#include "router/api/error_map.h"
#include "router/placement/policy.h"

namespace tandem {
namespace {

// Of each model, the ready workers of the revision that most of them have.
std::map<std::string, std::vector<size_t>> GroupByModel(const WorkerSnapshot& workers) {
  std::map<std::string, std::map<std::string, std::vector<size_t>>> groups;
  for (size_t i = 0; i < workers.sessions.size(); ++i) {
    const WorkerFacts& facts = *workers.views[i].facts;
    if (facts.state == WorkerState::kReady) groups[facts.model][facts.revision].push_back(i);
  }
  std::map<std::string, std::vector<size_t>> out;
  for (auto& [model, revisions] : groups) {
    for (auto& [revision, members] : revisions) {
      if (members.size() > out[model].size()) out[model] = std::move(members);
    }
  }
  return out;
}

std::string TextKey(const WorkerFacts& facts) {
  std::string key = absl::StrCat(facts.vocabulary);
  for (const WorkerAsset& asset : facts.assets) {
    absl::StrAppend(&key, " ", asset.name, "=", asset.digest);
  }
  return key;
}

}  // namespace

ModelCatalog::ModelCatalog(Options options)
    : options_(std::move(options)), models_(std::make_shared<Models>()) {}

void ModelCatalog::Start() {
  thread_ = std::jthread([this] { Loop(); });
}

ModelCatalog::~ModelCatalog() { Stop(); }

void ModelCatalog::Stop() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  assets_.Cancel();
  if (thread_.joinable()) thread_.join();
}

bool ModelCatalog::stopping() const {
  MutexLock lock(&mu_);
  return stopping_;
}

void ModelCatalog::Refresh() {
  {
    MutexLock lock(&mu_);
    dirty_ = true;
  }
  wake_.NotifyAll();
}

std::shared_ptr<const ModelCatalog::Models> ModelCatalog::models() const {
  MutexLock lock(&mu_);
  return models_;
}

void ModelCatalog::Loop() {
  bool complete = true;
  for (;;) {
    {
      MutexLock lock(&mu_);
      if (!complete && !dirty_ && !stopping_) wake_.WaitFor(&mu_, options_.retry_after);
      while (complete && !dirty_ && !stopping_) wake_.Wait(&mu_);
      if (stopping_) return;
      dirty_ = false;
    }
    complete = Update();
  }
}

void ModelCatalog::Publish(std::shared_ptr<const ServedModel> model) {
  auto next = std::make_shared<Models>(*models());
  (*next)[model->name] = std::move(model);
  {
    MutexLock lock(&mu_);
    models_ = std::move(next);
  }
  options_.on_update(/*servable=*/true);
}

void ModelCatalog::Report(std::map<std::string, absl::Status> failures) {
  MutexLock lock(&mu_);
  failures_.swap(failures);
  for (const auto& [name, why] : failures_) {
    const auto before = failures.find(name);
    if (before != failures.end() && before->second == why) continue;  // told already
    LogWarning("model can't be served", {{"model", name}, {"error", why}});
  }
}

bool ModelCatalog::Update() {
  const WorkerSnapshot workers = options_.workers();
  const auto groups = GroupByModel(workers);
  std::map<std::string, absl::Status> failures;
  bool servable = false;
  for (const auto& [name, members] : groups) {
    if (stopping()) return false;
    size_t& attempts = attempts_[name];
    auto loaded = Load(workers, members[attempts % members.size()]);
    if (!loaded.ok()) {
      ++attempts;
      failures[name] = loaded.status();
      continue;
    }
    auto model = std::make_shared<ServedModel>(**loaded);
    for (const size_t i : members) {
      model->max_context = std::max(model->max_context, workers.views[i].facts->max_context);
      model->worker_tokens = std::max(model->worker_tokens, Capacity(*workers.views[i].facts));
      model->workers.push_back(workers.views[i].facts);
    }
    for (const auto& [alias, target] : options_.aliases) {
      if (target == name) model->aliases.push_back(alias);
    }
    Publish(std::move(model));
    servable = true;
  }
  std::erase_if(attempts_, [&](const auto& entry) { return !groups.contains(entry.first); });
  const bool complete = failures.empty();
  Report(std::move(failures));
  options_.on_update(servable);
  return complete;
}

absl::StatusOr<std::shared_ptr<const ServedModel>> ModelCatalog::Load(const WorkerSnapshot& workers,
                                                                      size_t index) {
  auto model = std::make_shared<ServedModel>();
  model->facts = workers.views[index].facts;
  model->name = model->facts->model;
  std::weak_ptr<const TextModel>& cached = texts_[TextKey(*model->facts)];
  model->text = cached.lock();
  if (model->text == nullptr) {
    ASSIGN_OR_RETURN(const Assets files, assets_.Fetch(workers.sessions[index]->channel(),
                                                       *model->facts, options_.fetch_timeout));
    auto text = LoadTextModel(files, model->facts->vocabulary);
    RETURN_IF_ERROR(Annotate(ToStatus(text), model->facts->address));
    model->text = *std::move(text);
    cached = model->text;
  }
  std::erase_if(texts_, [](const auto& entry) { return entry.second.expired(); });
  return model;
}

absl::StatusOr<std::shared_ptr<const ServedModel>> ModelCatalog::Find(
    const std::string& name) const {
  const auto alias = options_.aliases.find(name);
  const std::string& wanted = alias == options_.aliases.end() ? name : alias->second;
  std::shared_ptr<const Models> models;
  std::string failures;
  {
    MutexLock lock(&mu_);
    models = models_;
    for (const auto& [model, why] : failures_) {
      absl::StrAppend(&failures, "; ", model, ": ", why.message());
    }
    const auto failed = failures_.find(wanted);
    if (failed != failures_.end() && !models->contains(wanted)) {
      return absl::UnavailableError(
          absl::StrCat("model ", wanted, " can't be served: ", failed->second.message()));
    }
  }
  if (models->empty()) return NoModelYet(DescribeWorkers(options_.workers().views) + failures);
  if (wanted.empty() && models->size() == 1) return models->begin()->second;
  const auto found = models->find(wanted);
  if (found != models->end()) return found->second;
  return UnknownModel(name, absl::StrJoin(*models, ", ", [](std::string* out, const auto& entry) {
                        out->append(entry.first);
                      }));
}

}  // namespace tandem
