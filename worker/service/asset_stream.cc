#include "worker/service/asset_stream.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"

namespace tandem {
namespace {

namespace wv1 = worker::v1;

constexpr size_t kChunkBytes = 1 << 20;

absl::StatusOr<std::vector<const Asset*>> Wanted(const std::vector<Asset>& assets,
                                                 const wv1::GetAssetsRequest& request) {
  std::vector<const Asset*> wanted;
  if (request.digests().empty()) {
    for (const Asset& asset : assets) wanted.push_back(&asset);
    return wanted;
  }
  if (request.digests_size() > 64) {
    return absl::InvalidArgumentError(
        absl::StrCat("digests: it has ", request.digests_size(), " entries, at most 64"));
  }
  for (const std::string& digest : request.digests()) {
    const auto it = std::find_if(assets.begin(), assets.end(),
                                 [&digest](const Asset& asset) { return asset.digest == digest; });
    if (it == assets.end()) {
      return absl::NotFoundError(
          absl::StrCat("digests: this worker has no asset ", digest.substr(0, 64)));
    }
    wanted.push_back(&*it);
  }
  return wanted;
}

class AssetStream final : public grpc::ServerWriteReactor<wv1::GetAssetsResponse> {
 public:
  explicit AssetStream(absl::StatusOr<std::vector<const Asset*>> wanted) {
    if (!wanted.ok()) {
      Finish(ToGrpcStatus(wanted.status()));
    } else {
      wanted_ = *std::move(wanted);
      WriteNext();
    }
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the reader is gone"));
    WriteNext();
  }
  void OnDone() override { delete this; }

 private:
  void WriteNext() {
    if (asset_ == wanted_.size()) return Finish(grpc::Status::OK);
    const Asset& asset = *wanted_[asset_];
    message_.Clear();
    if (offset_ == 0) message_.set_name(asset.name);
    message_.set_digest(asset.digest);
    const size_t bytes = std::min(kChunkBytes, asset.data.size() - offset_);
    message_.set_data(asset.data.substr(offset_, bytes));
    offset_ += bytes;
    message_.set_last(offset_ == asset.data.size());
    if (message_.last()) {
      ++asset_;
      offset_ = 0;
    }
    StartWrite(&message_);
  }

  std::vector<const Asset*> wanted_;
  size_t asset_ = 0, offset_ = 0;
  wv1::GetAssetsResponse message_;
};

}  // namespace

grpc::ServerWriteReactor<wv1::GetAssetsResponse>* SendAssets(const absl::Status& admitted,
                                                             const std::vector<Asset>& assets,
                                                             const wv1::GetAssetsRequest& request) {
  if (!admitted.ok()) return new AssetStream(admitted);
  return new AssetStream(Wanted(assets, request));
}

}  // namespace tandem
