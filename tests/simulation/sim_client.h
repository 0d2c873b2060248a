#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "router/api/dispatch.h"
#include "router/api/relay.h"
#include "tests/simulation/sim_worker.h"

namespace tandem {

// A request, its relay, and the client that reads its answer at its own pace.
//   life    Start, then until ended(); shared with the events that it causes
//   threads one
class SimClient final : public RelayReader, public std::enable_shared_from_this<SimClient> {
 public:
  struct Options {
    std::string request_id;
    worker::v1::Submit submit;  // but for what an attempt adds
    std::string revision = "r";
    FailoverOptions failover;
    // Between two reads; a slow client makes its request pause.
    absl::Duration read_pause = absl::Milliseconds(1);
    std::optional<absl::Duration> cancel_after;
    Deltas::Options deltas = {.no_text = true};
    // Called at the start, and whenever tokens have come: how many it has of all outputs.
    std::function<void(const SimClient& client, size_t tokens)> on_tokens;
  };
  struct Output {
    std::vector<int32_t> token_ids;
    std::string text;
    std::vector<inference::v1::PositionLogprobs> logprobs;
    std::optional<inference::v1::OutputFinish> finish;
  };
  using Workers = std::vector<std::unique_ptr<SimWorker>>;

  SimClient(Events* events, const Workers* workers, const TextModel* text,
            const RouterMetrics* metrics, Options options);

  void Start();

  bool ended() const { return status_.has_value(); }
  const absl::Status& status() const { return *status_; }
  bool cancelled() const { return cancelled_; }
  const std::vector<Output>& outputs() const { return outputs_; }
  const std::vector<inference::v1::PositionLogprobs>& prompt_logprobs() const {
    return prompt_logprobs_;
  }
  uint32_t attempts() const { return attempts_; }
  // Workers of its last attempt: the one that decodes, then the prefill worker if that is another.
  const std::vector<SimWorker*>& serving() const { return serving_; }
  const Options& options() const { return options_; }
  // The request as an engine takes it, for the answer that it should get.
  EngineRequest request() const;
  std::vector<std::string> faults;

  void OnReady() override;
  void Abandon() override { faults.emplace_back("abandoned"); }

 private:
  void Read();
  void Take(const inference::v1::GenerateResponse& message);
  void Tick();
  void TellTokens();
  absl::Status Dispatch(const RelayAttempt& attempt);

  Events* const events_;
  const Workers* const workers_;
  const TextModel* const text_;
  const Options options_;
  const std::shared_ptr<Relay> relay_;
  std::vector<Output> outputs_;
  std::vector<inference::v1::PositionLogprobs> prompt_logprobs_;
  std::optional<absl::Status> status_;
  uint32_t attempts_ = 0;
  std::vector<SimWorker*> serving_;
  bool reading_ = false;  // a read is on its way
  bool cancelled_ = false;
};

}  // namespace tandem
