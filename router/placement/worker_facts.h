#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tandem {

enum class WorkerRole { kUnified, kPrefill, kDecode };

enum class WorkerState {
  kConnecting,  // no hello yet
  kReady,
  kDraining,      // finishes what runs, accepts nothing new
  kStuck,         // speaks, but its engine has not moved for too long
  kLost,          // the session broke; a new one is tried after a pause
  kIncompatible,  // its hello can't be used; `detail` says why
};

// One file that a worker hands out, named by its content.
struct WorkerAsset {
  std::string name;    // tokenizer.json, chat_template.jinja, ...
  std::string digest;  // hex SHA-256
  uint64_t bytes = 0;
};

// What a worker said of itself in its hello, and how its session stands. Never changes: a new
// state is a new object.
struct WorkerFacts {
  std::string address;  // host:port
  WorkerState state = WorkerState::kConnecting;
  std::string detail;       // why it is not ready; empty when it is
  bool unanswered = false;  // lost, and who connected to it since then found nobody
  // The rest is from the last hello, and empty before the first.
  uint64_t incarnation = 0;
  WorkerRole role = WorkerRole::kUnified;
  std::string model;
  std::string revision;  // as the worker's operator names it, else hex SHA-256 of the weights
  std::string tokenizer_digest;
  std::string architecture;
  std::string license;
  std::string kv_abi;
  std::string handoff_address;
  uint32_t block_tokens = 0;
  uint32_t tensor_parallel = 0;
  uint32_t blocks = 0;
  uint32_t max_context = 0;  // tokens
  uint32_t max_sequences = 0;
  uint32_t vocabulary = 0;
  std::vector<int32_t> eos_token_ids;
  std::vector<WorkerAsset> assets;
};

// A worker as placement sees it at one moment.
struct WorkerView {
  std::shared_ptr<const WorkerFacts> facts;
  // Prompt tokens still to compute and output tokens that may still come: the worker's last report
  // and what was sent there since.
  uint64_t predicted_tokens = 0;
};

}  // namespace tandem
