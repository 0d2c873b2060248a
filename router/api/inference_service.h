#pragma once
#include <grpcpp/grpcpp.h>

#include "router/api/generate.h"
#include "tandem/inference/v1/inference.grpc.pb.h"

namespace tandem {

// The public API. Nothing in it blocks: prompts go to the pool, answers come by relay_stream.
//   life    outlives the server that it is registered with; `api` outlives it
class InferenceService final : public inference::v1::InferenceService::CallbackService {
 public:
  explicit InferenceService(const ApiContext& api) : api_(api) {}

  grpc::ServerWriteReactor<inference::v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const inference::v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* GenerateOnce(grpc::CallbackServerContext* context,
                                         const inference::v1::GenerateRequest* request,
                                         inference::v1::GenerateResponse* response) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context,
                                  const inference::v1::EmbedRequest* request,
                                  inference::v1::EmbedResponse* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const inference::v1::TokenizeRequest* request,
                                     inference::v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const inference::v1::DetokenizeRequest* request,
                                       inference::v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const inference::v1::ListModelsRequest* request,
                                       inference::v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const inference::v1::GetModelRequest* request,
                                     inference::v1::GetModelResponse* response) override;

 private:
  const ApiContext api_;
};

}  // namespace tandem
