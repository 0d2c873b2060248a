#include "router/placement/worker_hello.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace tandem {
namespace {

namespace wv1 = worker::v1;

constexpr int kMaxAssets = 64;
constexpr size_t kMaxNameBytes = 256;
constexpr uint64_t kMaxAssetBytes = 256 << 20;

absl::Status Check(const wv1::WorkerInfo& hello) {
  const auto bad = [](absl::string_view what) { return absl::FailedPreconditionError(what); };
  if (hello.protocol_version() != kWorkerProtocolVersion) {
    return bad(absl::StrCat("it speaks protocol version ", hello.protocol_version(),
                            ", this router ", kWorkerProtocolVersion));
  }
  if (hello.model().empty() || hello.model().size() > kMaxNameBytes) {
    return bad(absl::StrCat("its model's name has ", hello.model().size(), " bytes; want 1 to ",
                            kMaxNameBytes));
  }
  if (hello.role() != wv1::ROLE_UNIFIED && hello.role() != wv1::ROLE_PREFILL &&
      hello.role() != wv1::ROLE_DECODE) {
    return bad(absl::StrCat("its role is unknown: ", static_cast<int>(hello.role())));
  }
  if (hello.layout().kv_abi().empty()) return bad("its hello has no layout.kv_abi");
  if (hello.layout().block_tokens() == 0) return bad("its layout.block_tokens is 0");
  if (hello.blocks() == 0) return bad("its pool has no KV blocks");
  if (hello.vocabulary() == 0 || hello.vocabulary() > (1u << 30)) {
    return bad(absl::StrCat("its vocabulary is ", hello.vocabulary(), " tokens"));
  }
  if (hello.max_context() == 0) return bad("its max_context is 0");
  if (hello.assets_size() > kMaxAssets) {
    return bad(absl::StrCat("it lists ", hello.assets_size(), " assets; at most ", kMaxAssets));
  }
  for (const wv1::Asset& asset : hello.assets()) {
    if (asset.bytes() > kMaxAssetBytes) {
      return bad(absl::StrCat("its asset ", asset.name(), " has ", asset.bytes(),
                              " bytes; at most ", kMaxAssetBytes));
    }
  }
  return absl::OkStatus();
}

WorkerRole ToRole(wv1::Role role) {
  if (role == wv1::ROLE_PREFILL) return WorkerRole::kPrefill;
  return role == wv1::ROLE_DECODE ? WorkerRole::kDecode : WorkerRole::kUnified;
}

}  // namespace

absl::StatusOr<WorkerFacts> ReadHello(const std::string& address, const wv1::WorkerInfo& hello) {
  if (absl::Status status = Check(hello); !status.ok()) return status;
  WorkerFacts facts;
  facts.address = address;
  facts.state = WorkerState::kReady;
  facts.incarnation = hello.incarnation();
  facts.role = ToRole(hello.role());
  facts.model = hello.model();
  facts.revision = hello.revision().empty() ? hello.layout().weights_digest() : hello.revision();
  facts.tokenizer_digest = hello.layout().tokenizer_digest();
  facts.architecture = hello.architecture();
  facts.license = hello.license();
  facts.kv_abi = hello.layout().kv_abi();
  facts.handoff_address = hello.handoff_address();
  facts.block_tokens = hello.layout().block_tokens();
  facts.tensor_parallel = hello.layout().tensor_parallel();
  facts.blocks = hello.blocks();
  facts.max_sequences = hello.max_sequences();
  facts.max_context = hello.max_context();
  facts.vocabulary = hello.vocabulary();
  facts.eos_token_ids.assign(hello.eos_token_ids().begin(), hello.eos_token_ids().end());
  for (const wv1::Asset& asset : hello.assets()) {
    facts.assets.push_back({asset.name(), asset.digest(), asset.bytes()});
  }
  return facts;
}

}  // namespace tandem
