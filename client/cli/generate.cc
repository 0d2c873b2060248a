#include <cstdio>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "client/answer.h"
#include "client/cli/answer_printer.h"
#include "client/cli/commands.h"
#include "client/cli/flags.h"
#include "client/cli/guided_flags.h"
#include "client/cli/request_flags.h"
#include "client/cli/terminal.h"
#include "client/cli/text_input.h"
#include "client/client.h"

namespace tandem::cli {
namespace {
namespace v1 = inference::v1;

constexpr char kHelp[] =
    "tandem generate [FLAGS] PROMPT: asks a cluster once and streams the answer to stdout\n"
    "  tandem generate --max-tokens 64 \"Why is the sky blue?\"\n"
    "PROMPT is a user's message to the model's chat template; - reads it from stdin.\n"
    "The answer goes to stdout; log-probabilities and who served it, to stderr.\n";

struct GenerateFlags {
  RequestFlags request;
  bool raw = false;
  std::vector<int32_t> token_ids;
  absl::optional<uint32_t> logprobs;
  absl::optional<uint32_t> prompt_logprobs;
  bool ignore_eos = false;
  GuidedFlags guided;
  bool json = false;
  bool help = false;

  Flags Declared() {
    Flags flags;
    request.Declare(&flags);
    flags.Switch("raw", "PROMPT is plain text, without a chat template", &raw);
    flags.Ids("token-ids", "1,2,3", "the prompt as token ids, in place of PROMPT", &token_ids);
    flags.Count("logprobs", "K", "log-probabilities of the answer's tokens and the K likeliest",
                &logprobs);
    flags.Count("prompt-logprobs", "K", "the same of the prompt", &prompt_logprobs);
    flags.Switch("ignore-eos", "go on past the model's end of sequence", &ignore_eos);
    guided.Declare(&flags);
    flags.Switch("json", "print one JSON object an output when it is whole", &json);
    flags.Switch("help", "show this", &help);
    return flags;
  }
};

absl::Status SetInput(const GenerateFlags& flags, const std::vector<std::string>& words,
                      v1::GenerateRequest* request) {
  if (!flags.token_ids.empty()) {
    if (!words.empty() || flags.raw) {
      return absl::InvalidArgumentError("--token-ids stands in place of PROMPT and --raw");
    }
    *request->mutable_token_ids()->mutable_ids() = {flags.token_ids.begin(), flags.token_ids.end()};
    return absl::OkStatus();
  }
  if (words.empty()) return absl::InvalidArgumentError("PROMPT is missing");
  std::string prompt = absl::StrJoin(words, " ");
  if (words == std::vector<std::string>{"-"}) {
    ASSIGN_OR_RETURN(prompt, ReadText(stdin));
  }
  if (prompt.empty()) return absl::InvalidArgumentError("PROMPT is empty");
  if (flags.raw) {
    request->set_text(prompt);
  } else {
    v1::ChatMessage* message = request->mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content(prompt);
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::GenerateRequest> MakeRequest(const GenerateFlags& flags,
                                                const std::vector<std::string>& words) {
  v1::GenerateRequest request = flags.request.request();
  RETURN_IF_ERROR(SetInput(flags, words, &request));
  RETURN_IF_ERROR(flags.guided.Set(&request));
  if (flags.ignore_eos) request.mutable_stopping()->set_ignore_eos(true);
  if (flags.json) request.mutable_response()->set_token_ids(true);
  if (flags.logprobs) request.mutable_response()->set_logprobs(*flags.logprobs);
  if (flags.prompt_logprobs)
    request.mutable_response()->set_prompt_logprobs(*flags.prompt_logprobs);
  return request;
}

int Generate(const GenerateFlags& flags, const v1::GenerateRequest& request) {
  const auto client = Client::Create(flags.request.connection());
  if (!client.ok()) return UsageError("generate", client.status());
  Answer answer(absl::Now());
  const AnswerPrinter printer(request.sampling().n() > 1);
  const absl::Status status =
      (*client)->Generate(request, [&](const v1::GenerateResponse& response) {
        answer.Add(response, absl::Now());
        if (!flags.json) printer.Add(response);
        return true;
      });
  if (!flags.json) printer.Finish(answer);
  if (!status.ok()) {
    PrintError(status);
    return 1;
  }
  if (flags.json) {
    for (size_t i = 0; i < answer.outputs().size(); ++i) PrintAnswer(OutputJson(answer, i) + "\n");
  } else {
    for (const std::string& line : LogprobLines(answer)) Note(line);
    Note(Summary(answer, flags.request.connection().endpoint));
  }
  return 0;
}

}  // namespace

int RunGenerate(Arguments args) {
  GenerateFlags flags;
  const Flags declared = flags.Declared();
  const absl::StatusOr<std::vector<std::string>> words = declared.Parse(args);
  if (!words.ok()) return UsageError("generate", words.status());
  if (flags.help) {
    PrintAnswer(kHelp + declared.Help());
    return 0;
  }
  const absl::StatusOr<v1::GenerateRequest> request = MakeRequest(flags, *words);
  if (!request.ok()) return UsageError("generate", request.status());
  return Generate(flags, *request);
}

}  // namespace tandem::cli
