#include "client/answer.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tandem {
namespace v1 = inference::v1;
namespace {

constexpr uint32_t kOutputsMax = 8;  // of one request, by the contract

nlohmann::ordered_json Json(const v1::TokenLogprob& token) {
  return {{"token_id", token.token_id()}, {"logprob", token.logprob()}, {"rank", token.rank()}};
}

nlohmann::ordered_json Json(const v1::PositionLogprobs& position) {
  nlohmann::ordered_json json = nullptr;
  if (position.has_token()) json = Json(position.token());
  json["top"] = nlohmann::ordered_json::array();
  for (const v1::TokenLogprob& token : position.top()) json["top"].push_back(Json(token));
  return json;
}

template <typename Positions>
nlohmann::ordered_json JsonArray(const Positions& positions) {
  auto json = nlohmann::ordered_json::array();
  for (const v1::PositionLogprobs& position : positions) json.push_back(Json(position));
  return json;
}

std::string FinishName(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "stop";
    case v1::FINISH_REASON_LENGTH:
      return "length";
    case v1::FINISH_REASON_TIME_LIMIT:
      return "time_limit";
    case v1::FINISH_REASON_CANCELLED:
      return "cancelled";
    default:
      return "unspecified";
  }
}

std::string Row(absl::string_view token, absl::string_view logprob) {
  return absl::StrFormat("%7s %9s", token, logprob);
}

std::string Row(const v1::TokenLogprob& token) {
  return Row(absl::StrCat(token.token_id()), absl::StrFormat("%.4f", token.logprob()));
}

// With its headings; nothing where there are no positions.
template <typename Positions>
std::vector<std::string> Table(const std::string& name, const Positions& positions) {
  if (positions.empty()) return {};
  std::vector<std::string> lines = {
      absl::StrCat("log-probabilities of ", name),
      absl::StrFormat("%10s %s %7s | the likeliest", "position", Row("token", "logprob"), "rank")};
  size_t at = 0;
  for (const v1::PositionLogprobs& position : positions) {
    const bool known = position.has_token();
    std::string line =
        absl::StrFormat("%10d %s %7s", at++, known ? Row(position.token()) : Row("-", "-"),
                        known ? absl::StrCat(position.token().rank()) : "-");
    if (position.top_size() > 0) line += " |";
    for (const v1::TokenLogprob& token : position.top()) line += Row(token);
    lines.push_back(std::move(line));
  }
  return lines;
}

std::string Bytes(uint64_t bytes) {
  if (bytes < 1000) return absl::StrCat(bytes, " B");
  if (bytes < 1000 * 1000) return absl::StrFormat("%.1f kB", bytes / 1e3);
  return absl::StrFormat("%.1f MB", bytes / 1e6);
}

nlohmann::ordered_json FailedAttempts(const v1::Serving& serving) {
  auto json = nlohmann::ordered_json::array();
  for (const v1::FailedAttempt& failed : serving.failed_attempts()) {
    json.push_back(
        {{"workers", {{"prefill", failed.prefill_worker()}, {"decode", failed.decode_worker()}}},
         {"reason", failed.reason()},
         {"completion_tokens", failed.completion_tokens()}});
  }
  return json;
}

}  // namespace

void Answer::Add(const v1::GenerateResponse& response, absl::Time now) {
  if (response.has_start()) start_ = response.start();
  if (response.has_end()) end_ = response.end();
  for (const v1::OutputDelta& delta : response.outputs()) {
    if (delta.index() >= kOutputsMax) continue;
    if (delta.index() >= outputs_.size()) outputs_.resize(delta.index() + 1);
    Output& output = outputs_[delta.index()];
    output.text += delta.text();
    output.token_ids.insert(output.token_ids.end(), delta.token_ids().begin(),
                            delta.token_ids().end());
    output.logprobs.insert(output.logprobs.end(), delta.logprobs().begin(), delta.logprobs().end());
    if (delta.has_finish()) output.finish = delta.finish();
    if (!any_token_) first_ = now;
    any_token_ = true;
  }
  last_ = now;
}

double Answer::tokens_per_second() const {
  const uint32_t tokens = end_.usage().completion_tokens();
  const double seconds = absl::ToDoubleSeconds(last_ - first_);
  return tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : 0;
}

std::string Summary(const Answer& answer, const std::string& router) {
  const v1::Serving& serving = answer.end().serving();
  std::string workers = absl::StrCat("unified ", serving.decode_worker());
  if (serving.prefill_worker() != serving.decode_worker()) {
    workers =
        absl::StrCat("prefill ", serving.prefill_worker(), " -> decode ", serving.decode_worker());
  }
  const v1::Usage& usage = answer.end().usage();
  return absl::StrFormat(
      "router %s -> %s | %d prompt + %d completion tokens | TTFT %.0f ms | %.1f tokens/s | "
      "%s of KV handed over",
      router, workers, usage.prompt_tokens(), usage.completion_tokens(),
      absl::ToDoubleMilliseconds(answer.first_token()), answer.tokens_per_second(),
      Bytes(serving.kv_bytes()));
}

std::vector<std::string> LogprobLines(const Answer& answer) {
  std::vector<std::string> lines = Table("the prompt", answer.start().prompt_logprobs());
  for (size_t i = 0; i < answer.outputs().size(); ++i) {
    const std::string name =
        answer.outputs().size() == 1 ? "the answer" : absl::StrCat("output ", i);
    for (std::string& line : Table(name, answer.outputs()[i].logprobs)) {
      lines.push_back(std::move(line));
    }
  }
  return lines;
}

std::string OutputJson(const Answer& answer, size_t index) {
  const Answer::Output& output = answer.outputs()[index];
  const v1::Usage& usage = answer.end().usage();
  const v1::Serving& serving = answer.end().serving();
  nlohmann::ordered_json json = {
      {"index", index},
      {"request_id", answer.start().request_id()},
      {"model", answer.start().model()},
      {"seed", answer.start().seed()},
      {"text", output.text},
      {"token_ids", output.token_ids},
      {"logprobs", JsonArray(output.logprobs)},
      {"prompt_logprobs", JsonArray(answer.start().prompt_logprobs())},
      {"finish_reason", FinishName(output.finish.reason())},
      {"usage",
       {{"prompt_tokens", usage.prompt_tokens()},
        {"cached_tokens", usage.cached_tokens()},
        {"completion_tokens", usage.completion_tokens()}}},
      {"workers", {{"prefill", serving.prefill_worker()}, {"decode", serving.decode_worker()}}},
      {"attempts", serving.attempts()},
      {"failed_attempts", FailedAttempts(serving)},
      {"kv_bytes", serving.kv_bytes()},
      {"ttft_ms", absl::ToDoubleMilliseconds(answer.first_token())},
      {"e2e_ms", absl::ToDoubleMilliseconds(answer.total())},
  };
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace tandem
