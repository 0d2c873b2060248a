#include "client/cli/request_flags.h"

#include "client/cli/endpoint_flags.h"

namespace tandem::cli {
namespace v1 = inference::v1;

void RequestFlags::Declare(Flags* flags) {
  DeclareEndpoint(flags, &connection);
  flags->Text("model", "NAME", "may be left out where one model is served", &model);
  flags->Count("max-tokens", "N", "tokens to produce at most", &max_tokens);
  flags->Real("temperature", "T", "0 is greedy; default: the model's", &temperature);
  flags->Real("top-p", "P", "keep the likeliest tokens up to this probability", &top_p);
  flags->Count("n", "N", "answers to one prompt, printed one after another; 1 to 8", &n);
  flags->Seed("seed", "S", "the same seed gives the same answer", &seed);
}

v1::GenerateRequest RequestFlags::Request() const {
  v1::GenerateRequest request;
  request.set_model(model);
  if (max_tokens) request.mutable_stopping()->set_max_tokens(*max_tokens);
  if (temperature) request.mutable_sampling()->set_temperature(*temperature);
  if (top_p) request.mutable_sampling()->set_top_p(*top_p);
  if (seed) request.mutable_sampling()->set_seed(*seed);
  if (n) request.mutable_sampling()->set_n(*n);
  return request;
}

}  // namespace tandem::cli
