#include "tests/worker/engine/harness.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"
#include "base/check.h"

namespace tandem {

bool Heard::over(Role role) const {
  if (refused > 0 || !error.ok() || handoff) return true;
  bool all = true, cut = false;
  for (size_t i = 0; i <= others.size(); ++i) {
    all = all && (output(i).finish.has_value() || output(i).ended_before);
    cut = cut || output(i).cut_off();
  }
  return all && (cut || role != Role::kPrefill);
}

std::vector<uint32_t> BitsOf(const std::vector<PositionLogprobs>& positions) {
  std::vector<uint32_t> bits;
  const auto add = [&bits](const TokenLogprob& one) {
    bits.insert(bits.end(), {static_cast<uint32_t>(one.token_id), one.rank,
                             std::bit_cast<uint32_t>(one.logprob)});
  };
  for (const PositionLogprobs& position : positions) {
    add(position.token);
    for (const TokenLogprob& top : position.top) add(top);
  }
  return bits;
}

void RecordingSink::Await(const EngineRequest& request) {
  roles[request.handle] = request.role;
  Heard& h = heard[request.handle];
  h.others.resize(request.outputs - 1);
  for (size_t i = 0; i < request.resume.size(); ++i) {
    h.output(i).resumed = request.resume[i].tokens.size();
    h.output(i).ended_before = request.resume[i].ended;
  }
}

void RecordingSink::OnAccepted(uint64_t handle, uint32_t) {
  if (heard[handle].accepted++ > 0) faults.push_back(absl::StrCat(handle, " accepted twice"));
}

void RecordingSink::OnRefused(uint64_t handle, const absl::Status& status) {
  Heard& h = heard[handle];
  if (h.accepted > 0 || h.refused++ > 0) faults.push_back(absl::StrCat(handle, " refused late"));
  h.refusal = status;
}

void RecordingSink::OnStep(StepOutput output) {
  ++steps;
  on_step();
  if (output.sequences.empty()) faults.push_back("an empty step");
  for (const SequenceOutput& sequence : output.sequences) Take(sequence);
}

void RecordingSink::Take(const SequenceOutput& output) {
  Heard& h = heard[output.handle];
  if (h.accepted != 1) faults.push_back(absl::StrCat(output.handle, " not accepted"));
  if (h.over(roles[output.handle])) faults.push_back(absl::StrCat(output.handle, " ended twice"));
  if (output.output_index > h.others.size()) {
    faults.push_back(absl::StrCat(output.handle, " has no output ", output.output_index));
    return;
  }
  HeardOutput& one = h.output(output.output_index);
  if (one.ended_before && output.error.ok() && !output.handoff) {
    faults.push_back(absl::StrCat(output.handle, " told of an output that had ended"));
  }
  if (one.finish && (output.finish || !output.token_ids.empty())) {
    faults.push_back(absl::StrCat(output.handle, " went on after its finish"));
  }
  const size_t told = one.resumed + one.token_ids.size();
  if (output.error.ok() && !output.handoff && output.first_index != told) {
    faults.push_back(absl::StrCat(output.handle, " left out a token"));
  }
  one.token_ids.insert(one.token_ids.end(), output.token_ids.begin(), output.token_ids.end());
  one.logprobs.insert(one.logprobs.end(), output.logprobs.begin(), output.logprobs.end());
  const bool first = output.output_index == 0 && output.first_index == 0;
  if ((output.cached_tokens > 0 || !output.prompt_logprobs.empty()) && !first) {
    faults.push_back(absl::StrCat(output.handle, " told of the prompt with another token"));
  }
  h.prompt_logprobs.insert(h.prompt_logprobs.end(), output.prompt_logprobs.begin(),
                           output.prompt_logprobs.end());
  h.cached_tokens += output.cached_tokens;
  if (output.finish) one.finish = output.finish;
  if (output.handoff) h.handoff = output.handoff;
  if (!output.error.ok()) h.error = output.error;
}

CoreHarness::CoreHarness(ToyModel::Options model_options, EngineOptions engine_options)
    : model([&] {
        model_options.clock = &clock;
        return model_options;
      }()),
      pool(*BlockPool::Create({.blocks = model_options.blocks})),
      options(engine_options) {
  Connect(nullptr, nullptr);
}

void CoreHarness::Connect(HandoffSender* sender, HandoffReceiver* receiver) {
  auto created =
      EngineCore::Create(options,
                         {.model = &model,
                          .pool = pool.get(),
                          .sender = sender,
                          .receiver = receiver,
                          .clock = &clock,
                          .metrics = metrics,
                          .guides = guides},
                         [posted = posted](EngineMessage message) {
                           TANDEM_CHECK(posted->TryPush(std::move(message)), "too many messages");
                         });
  TANDEM_CHECK(created.ok(), created.status().ToString().c_str());
  core = *std::move(created);
  core->OpenSession(kSession, sink);
}

void CoreHarness::Submit(EngineRequest request) {
  sink->Await(request);
  core->Submit(kSession, std::move(request));
}

bool CoreHarness::Turn() {
  for (EngineMessage& message : posted->PopAll(absl::ZeroDuration())) message(*core);
  return core->Step();
}

void CoreHarness::RunDry(int turns) {
  while (turns-- > 0 && Turn()) {
  }
}

EngineRequest ToyRequest(uint64_t handle, uint32_t tokens, uint32_t max_tokens) {
  EngineRequest request;
  request.handle = handle;
  request.request_id = absl::StrCat("r", handle);
  for (uint32_t i = 0; i < tokens; ++i) {
    request.prompt.push_back(
        static_cast<int32_t>((handle * 31 + i * i * 7 + i) % ToyModel::kVocab));
  }
  request.max_tokens = max_tokens;
  request.sampling.seed = handle;
  return request;
}

EngineRequest Several(uint64_t handle, uint32_t outputs, uint32_t tokens, uint32_t max_tokens) {
  EngineRequest request = ToyRequest(handle, tokens, max_tokens);
  request.outputs = outputs;
  request.logprobs = 2;
  return request;
}

void Adjust(EngineRequest& request, uint32_t mixture) {
  SamplingSpec& spec = request.sampling;
  if (mixture % 2 == 0) spec.presence_penalty = 1.5f;
  if (mixture % 3 == 0) spec.frequency_penalty = 0.75f;
  if (mixture % 3 == 1) spec.repetition_penalty = 1.5f;
  if (mixture % 4 == 1) spec.logit_bias = {{3, 4.0f}, {5, -100.0f}};
  if (mixture % 5 == 2) spec.allowed_ids = {0, 1, 2, 3, 5, 8, 13, 21, 34};
  if (mixture % 2 == 1) request.stop_ids = {0, 7, 13};
  request.min_tokens = std::min(mixture % 7, request.max_tokens);
}

}  // namespace tandem
