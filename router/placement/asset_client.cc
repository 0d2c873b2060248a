#include "router/placement/asset_client.h"

#include <grpcpp/grpcpp.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/block_hash.h"
#include "base/clock.h"
#include "base/grpc_deadline.h"
#include "base/status.h"
#include "tandem/worker/v1/worker.grpc.pb.h"

namespace tandem {
namespace {

namespace wv1 = worker::v1;

constexpr uint64_t kMaxTotalBytes = uint64_t{1} << 30;

// Files that are arriving, by digest.
using Arriving = absl::flat_hash_map<std::string, std::string>;

absl::Status ReadAll(wv1::WorkerService::Stub* stub, grpc::ClientContext* context,
                     const wv1::GetAssetsRequest& request, uint64_t expected_bytes,
                     Arriving* files) {
  const auto reader = stub->GetAssets(context, request);
  wv1::GetAssetsResponse chunk;
  uint64_t received = 0;
  while (reader->Read(&chunk)) {
    received += chunk.data().size();
    const auto file = files->find(chunk.digest());
    if (file == files->end() || received > expected_bytes) {
      context->TryCancel();
      return absl::FailedPreconditionError(file == files->end()
                                               ? "it sent a file that was not asked for"
                                               : "it sent more bytes than it announced");
    }
    file->second.append(chunk.data());
  }
  const grpc::Status status = reader->Finish();
  if (status.ok()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("GetAssets: ", status.error_message()));
}

}  // namespace

class AssetClient::Running {
 public:
  Running(AssetClient* client, absl::Duration timeout) : client_(client) {
    context_.set_deadline(ToGrpcDeadline(RealClock()->Now() + timeout));
    MutexLock lock(&client_->mu_);
    client_->running_.insert(&context_);
    if (client_->cancelled_) context_.TryCancel();
  }
  ~Running() {
    MutexLock lock(&client_->mu_);
    client_->running_.erase(&context_);
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  grpc::ClientContext* context() { return &context_; }

 private:
  AssetClient* const client_;
  grpc::ClientContext context_;
};

void AssetClient::Cancel() {
  MutexLock lock(&mu_);
  cancelled_ = true;
  for (grpc::ClientContext* context : running_) context->TryCancel();
}

absl::StatusOr<Assets> AssetClient::Fetch(const std::shared_ptr<grpc::Channel>& channel,
                                          const WorkerFacts& worker, absl::Duration timeout) {
  Assets out;
  wv1::GetAssetsRequest request;
  Arriving arriving;
  uint64_t expected_bytes = 0;
  {
    MutexLock lock(&mu_);
    absl::erase_if(by_digest_, [](const auto& entry) { return entry.second.expired(); });
    for (const WorkerAsset& asset : worker.assets) {
      const auto found = by_digest_.find(asset.digest);
      if (found != by_digest_.end()) out[asset.name] = found->second.lock();
      if (out[asset.name] != nullptr || !arriving.try_emplace(asset.digest).second) continue;
      request.add_digests(asset.digest);
      expected_bytes += asset.bytes;
    }
  }
  if (expected_bytes > kMaxTotalBytes) {
    return absl::FailedPreconditionError(absl::StrCat(
        worker.address, ": its assets have ", expected_bytes, " bytes; at most ", kMaxTotalBytes));
  }
  if (request.digests_size() > 0) {
    const auto stub = wv1::WorkerService::NewStub(channel);
    Running call(this, timeout);
    RETURN_IF_ERROR(Annotate(
        ReadAll(stub.get(), call.context(), request, expected_bytes, &arriving), worker.address));
  }
  MutexLock lock(&mu_);
  for (const WorkerAsset& asset : worker.assets) {
    std::shared_ptr<const std::string>& file = out[asset.name];
    if (file != nullptr) continue;
    const std::string& bytes = arriving[asset.digest];
    if (Sha256Hex(bytes) != asset.digest) {
      return absl::FailedPreconditionError(absl::StrCat(worker.address, ": its ", asset.name,
                                                        " does not have the digest it announced"));
    }
    file = std::make_shared<const std::string>(bytes);
    by_digest_[asset.digest] = file;
  }
  return out;
}

}  // namespace tandem
