#include "router/api/inference_service.h"

#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"
#include "base/status.h"
#include "router/api/error_map.h"
#include "router/api/model_info.h"
#include "router/api/relay_stream.h"
#include "router/api/request_check.h"
#include "router/prompt/prompt.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;

constexpr int kMaxDetokenizeIds = 1 << 20;

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToClient(status, ""));
  return reactor;
}

// Runs `work` on the pool and finishes the call with its status. gRPC keeps request and response
// until then, also when the client has left. `bytes` of the request count until it is done.
grpc::ServerUnaryReactor* AnswerFromPool(const ApiContext& api,
                                         grpc::CallbackServerContext* context, size_t bytes,
                                         std::function<absl::Status()> work) {
  if (absl::Status full = api.calls->TakeBytes(bytes); !full.ok()) return Answer(context, full);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto finish = [reactor, calls = api.calls, bytes](const absl::Status& status) {
    calls->GiveBytes(bytes);
    reactor->Finish(ToClient(status, ""));
  };
  if (!api.prompts->TryRun([finish, work = std::move(work)] { finish(work()); })) {
    finish(PromptQueueFull());
  }
  return reactor;
}

absl::Status Tokenize(const ApiContext& api, const ServedModel& model,
                      const iv1::TokenizeRequest& request, iv1::TokenizeResponse* response) {
  ASSIGN_OR_RETURN(TokenizedText result,
                   TokenizeInput(*model.text, request, api.max_prompt_bytes, absl::Now()));
  for (const int32_t id : result.ids) {
    response->add_token_ids(id);
    response->add_tokens(std::string(model.text->tokenizer->IdToBytes(id)));
  }
  response->set_rendered(std::move(result.rendered));
  return absl::OkStatus();
}

absl::Status Detokenize(const ServedModel& model, const iv1::DetokenizeRequest& request,
                        iv1::DetokenizeResponse* response) {
  if (request.token_ids_size() > kMaxDetokenizeIds) {
    const std::string why =
        absl::StrCat("it has ", request.token_ids_size(), " entries; at most ", kMaxDetokenizeIds);
    return WithFieldViolation(absl::InvalidArgumentError("token_ids: " + why), "token_ids", why);
  }
  for (int i = 0; i < request.token_ids_size(); ++i) {
    const int32_t id = request.token_ids(i);
    if (id >= 0 && static_cast<uint32_t>(id) < model.facts->vocabulary) continue;
    const std::string field = absl::StrCat("token_ids[", i, "]");
    const std::string why = absl::StrCat("token id ", id, " is outside of the vocabulary, 0 to ",
                                         model.facts->vocabulary - 1);
    return WithFieldViolation(absl::InvalidArgumentError(field + ": " + why), field, why);
  }
  // Ids between the tokenizer's last and the model's are padding: they stand for no text.
  std::vector<int32_t> ids;
  for (const int32_t id : request.token_ids()) {
    if (id < model.text->tokenizer->vocab_size()) ids.push_back(id);
  }
  const bool skip = !request.has_skip_special_tokens() || request.skip_special_tokens();
  ASSIGN_OR_RETURN(std::string text, model.text->tokenizer->Decode(ids, {.skip_special = skip}));
  response->set_text(std::move(text));
  return absl::OkStatus();
}

}  // namespace

grpc::ServerWriteReactor<iv1::GenerateResponse>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const iv1::GenerateRequest* request) {
  return StartRelayStream(api_, context, *request);
}

grpc::ServerUnaryReactor* InferenceService::GenerateOnce(grpc::CallbackServerContext* context,
                                                         const iv1::GenerateRequest* request,
                                                         iv1::GenerateResponse* response) {
  return StartRelayOnce(api_, context, *request, response);
}

grpc::ServerUnaryReactor* InferenceService::Embed(grpc::CallbackServerContext* context,
                                                  const iv1::EmbedRequest* /*request*/,
                                                  iv1::EmbedResponse* /*response*/) {
  return Answer(context, WithReason(absl::UnimplementedError("Embed: no served model makes "
                                                             "embeddings yet"),
                                    "METHOD_NOT_SUPPORTED"));
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const iv1::TokenizeRequest* request,
                                                     iv1::TokenizeResponse* response) {
  if (absl::Status bad = CheckTokenize(*request); !bad.ok()) return Answer(context, bad);
  auto model = api_.models->Find(request->model());
  if (!model.ok()) return Answer(context, model.status());
  return AnswerFromPool(api_, context, request->SpaceUsedLong(),
                        [this, model = *model, request, response] {
                          return tandem::Tokenize(api_, *model, *request, response);
                        });
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const iv1::DetokenizeRequest* request,
                                                       iv1::DetokenizeResponse* response) {
  auto model = api_.models->Find(request->model());
  if (!model.ok()) return Answer(context, model.status());
  return AnswerFromPool(api_, context, request->SpaceUsedLong(),
                        [model = *model, request, response] {
                          return tandem::Detokenize(*model, *request, response);
                        });
}

grpc::ServerUnaryReactor* InferenceService::ListModels(grpc::CallbackServerContext* context,
                                                       const iv1::ListModelsRequest* request,
                                                       iv1::ListModelsResponse* response) {
  return Answer(context, tandem::ListModels(*api_.models->models(), api_.workers->Snapshot(),
                                            *request, response));
}

grpc::ServerUnaryReactor* InferenceService::GetModel(grpc::CallbackServerContext* context,
                                                     const iv1::GetModelRequest* request,
                                                     iv1::GetModelResponse* response) {
  auto model = api_.models->Find(request->model());
  if (model.ok()) *response->mutable_model() = DescribeModel(**model, api_.workers->Snapshot());
  return Answer(context, model.status());
}

}  // namespace tandem
