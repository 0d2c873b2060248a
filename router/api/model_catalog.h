#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "router/placement/asset_client.h"
#include "router/placement/worker_table.h"
#include "router/prompt/text_model.h"

namespace tandem {

// A model that can be asked for. Immutable.
struct ServedModel {
  std::string name;
  std::vector<std::string> aliases;
  std::shared_ptr<const WorkerFacts> facts;  // of one of its workers: revision, vocabulary, ...
  uint32_t max_context = 0;                  // tokens; the largest of its workers
  uint64_t worker_tokens = 0;                // that the largest worker has room for
  std::vector<std::shared_ptr<const WorkerFacts>> workers;
  std::shared_ptr<const TextModel> text;
};

// Which models can be served: follows the workers, gets each model's files from one of them and
// keeps its tokenizer and template. A model stays known when its last worker goes.
//   life    its thread runs from Start(), which is called once, to Stop() or the destructor. It
//           calls Options::workers and on_update until then
//   errors  a model whose files can't be had or are wrong is not served; Find says why
//   threads any; nothing but the catalog's own thread waits for files
class ModelCatalog {
 public:
  using Models = std::map<std::string, std::shared_ptr<const ServedModel>>;  // by name
  struct Options {
    std::map<std::string, std::string> aliases;  // alias -> model
    // For a model's files from one worker; then another of its workers is asked.
    absl::Duration fetch_timeout = absl::Seconds(15);
    absl::Duration retry_after = absl::Seconds(1);  // when a model could not be had
    std::function<WorkerSnapshot()> workers;
    // Called by the catalog's thread: whether any model has a worker that is ready.
    std::function<void(bool servable)> on_update = [](bool) {};
  };

  explicit ModelCatalog(Options options);
  ~ModelCatalog();

  void Start();
  // Gives up files that are on their way. May be called again, by one thread.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);
  // The workers have changed; returns at once.
  void Refresh() ABSL_LOCKS_EXCLUDED(mu_);

  std::shared_ptr<const Models> models() const ABSL_LOCKS_EXCLUDED(mu_);
  // By name or alias; an empty name means the only model there is. NotFound lists what is served;
  // Unavailable: nothing is yet, or the model's files could not be had.
  absl::StatusOr<std::shared_ptr<const ServedModel>> Find(const std::string& name) const
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Loop() ABSL_LOCKS_EXCLUDED(mu_);
  // Brings models_ up to date; false when something could not be had.
  bool Update() ABSL_LOCKS_EXCLUDED(mu_);
  // Each model is served as soon as it is loaded, whatever becomes of the next.
  void Publish(std::shared_ptr<const ServedModel> model) ABSL_LOCKS_EXCLUDED(mu_);
  void Report(std::map<std::string, absl::Status> failures) ABSL_LOCKS_EXCLUDED(mu_);
  bool stopping() const ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<std::shared_ptr<const ServedModel>> Load(const WorkerSnapshot& workers,
                                                          size_t index);

  const Options options_;
  AssetClient assets_;
  std::map<std::string, std::weak_ptr<const TextModel>> texts_;  // by digests; the thread's own
  std::map<std::string, size_t> attempts_;  // that failed, by model; the thread's own

  mutable Mutex mu_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool dirty_ ABSL_GUARDED_BY(mu_) = true;
  std::shared_ptr<const Models> models_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, absl::Status> failures_ ABSL_GUARDED_BY(mu_);  // by model

  std::jthread thread_;
};

}  // namespace tandem
