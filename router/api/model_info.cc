#include "router/api/model_info.h"

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;

constexpr uint32_t kDefaultPage = 100, kMaxPage = 1000;

}  // namespace

iv1::Model DescribeModel(const ServedModel& model, const WorkerSnapshot& workers) {
  iv1::Model out;
  out.set_name(model.name);
  for (const std::string& alias : model.aliases) out.add_aliases(alias);
  out.set_revision(model.facts->revision);
  out.set_architecture(model.facts->architecture);
  out.set_max_context(model.max_context);
  out.set_vocabulary(model.facts->vocabulary);
  for (const int32_t id : model.facts->eos_token_ids) out.add_eos_token_ids(id);
  out.set_has_chat_template(model.text->chat_template != nullptr);
  out.set_license(model.facts->license);
  uint32_t prefill = 0, decode = 0, unified = 0;
  for (const WorkerView& view : workers.views) {
    if (view.facts->state != WorkerState::kReady || view.facts->model != model.name) continue;
    if (view.facts->role == WorkerRole::kPrefill) ++prefill;
    if (view.facts->role == WorkerRole::kDecode) ++decode;
    if (view.facts->role == WorkerRole::kUnified) ++unified;
  }
  out.set_prefill_workers(prefill);
  out.set_decode_workers(decode);
  out.set_unified_workers(unified);
  return out;
}

// A page token is the last name of the page before: names may come and go between two calls.
absl::Status ListModels(const ModelCatalog::Models& models, const WorkerSnapshot& workers,
                        const iv1::ListModelsRequest& request, iv1::ListModelsResponse* response) {
  if (request.page_size() > kMaxPage) {
    const std::string why = absl::StrCat("it is ", request.page_size(), "; at most ", kMaxPage);
    return WithFieldViolation(absl::InvalidArgumentError("page_size: " + why), "page_size", why);
  }
  const uint32_t page = request.page_size() == 0 ? kDefaultPage : request.page_size();
  auto at = models.upper_bound(request.page_token());
  for (; at != models.end() && static_cast<uint32_t>(response->models_size()) < page; ++at) {
    *response->add_models() = DescribeModel(*at->second, workers);
  }
  if (at != models.end()) response->set_next_page_token(std::prev(at)->first);
  return absl::OkStatus();
}

}  // namespace tandem
