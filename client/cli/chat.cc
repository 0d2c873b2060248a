#include <atomic>
#include <csignal>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/time/clock.h"
#include "client/answer.h"
#include "client/cli/answer_printer.h"
#include "client/cli/commands.h"
#include "client/cli/flags.h"
#include "client/cli/request_flags.h"
#include "client/cli/terminal.h"
#include "client/client.h"

namespace tandem::cli {
namespace {
namespace v1 = inference::v1;

constexpr char kHelp[] =
    "tandem chat [FLAGS]: a conversation, one message a line\n"
    "  tandem chat --system \"You answer in rhymes.\"\n"
    "/reset forgets the conversation, /exit or Ctrl-D ends; Ctrl-C stops an answer.\n";

// Set by Ctrl-C while an answer streams. A signal handler can reach nothing but a global.
std::atomic<bool> g_interrupted{false};

// While it lives, the first Ctrl-C stops the answer; a second one, the program.
class InterruptScope {
 public:
  InterruptScope() {
    g_interrupted = false;
    struct sigaction action = {};
    action.sa_handler = [](int) { g_interrupted = true; };
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    sigaction(SIGINT, &action, &before_);
  }
  ~InterruptScope() { sigaction(SIGINT, &before_, nullptr); }
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

 private:
  struct sigaction before_ = {};
};

// The conversation so far, and the endpoint that carries it on.
class Conversation {
 public:
  Conversation(Client* client, const RequestFlags& flags, const std::string& system)
      : client_(client), endpoint_(flags.connection().endpoint), request_(flags.request()) {
    request_.mutable_chat();
    if (!system.empty()) Add("system", system);
    kept_ = request_.chat().messages_size();
  }

  void Reset() {
    auto* messages = request_.mutable_chat()->mutable_messages();
    messages->DeleteSubrange(kept_, messages->size() - kept_);
  }

  // Streams the answer to `text`. A message that failed, or that got no text for an answer, is
  // forgotten; a stopped answer is kept. Of several answers the conversation goes on with the
  // first.
  absl::Status Ask(const std::string& text) {
    Add("user", text);
    Answer answer(absl::Now());
    const AnswerPrinter printer(request_.sampling().n() > 1);
    absl::Status status;
    {
      const InterruptScope scope;
      status = client_->Generate(request_, [&](const v1::GenerateResponse& response) {
        answer.Add(response, absl::Now());
        printer.Add(response);
        return !g_interrupted;
      });
    }
    printer.Finish(answer);
    if (g_interrupted && absl::IsCancelled(status)) status = absl::OkStatus();
    if (status.ok() && !g_interrupted && !answer.outputs().empty()) {
      Note(Summary(answer, endpoint_));
    }
    if (status.ok() && !answer.outputs().empty() && !answer.outputs()[0].text.empty()) {
      Add("assistant", answer.outputs()[0].text);
    } else {
      request_.mutable_chat()->mutable_messages()->RemoveLast();
    }
    return status;
  }

 private:
  void Add(const std::string& role, const std::string& content) {
    v1::ChatMessage* message = request_.mutable_chat()->add_messages();
    message->set_role(role);
    message->set_content(content);
  }

  Client* const client_;
  const std::string endpoint_;
  v1::GenerateRequest request_;
  int kept_ = 0;  // messages that Reset() leaves
};

int Converse(const RequestFlags& flags, const std::string& system) {
  const auto client = Client::Create(flags.connection());
  if (!client.ok()) return UsageError("chat", client.status());
  Conversation conversation(client->get(), flags, system);
  const bool terminal = InputIsTerminal();
  int result = 0;
  std::string line;
  while (true) {
    if (terminal) PrintAnswer("> ");
    if (!std::getline(std::cin, line)) break;
    const std::string text(absl::StripAsciiWhitespace(line));
    if (text == "/exit") return result;
    if (text == "/reset") {
      conversation.Reset();
    } else if (!text.empty() && text[0] == '/') {
      Note("there are /reset and /exit");
    } else if (!text.empty()) {
      const absl::Status status = conversation.Ask(text);
      if (!status.ok()) PrintError(status);
      result = status.ok() ? 0 : 1;
    }
  }
  if (terminal) PrintAnswer("\n");
  return result;
}

}  // namespace

int RunChat(Arguments args) {
  RequestFlags request;
  std::string system;
  bool help = false;
  Flags flags;
  request.Declare(&flags);
  flags.Text("system", "TEXT", "the system message", &system);
  flags.Switch("help", "show this", &help);
  const absl::StatusOr<std::vector<std::string>> words = flags.Parse(args);
  if (!words.ok()) return UsageError("chat", words.status());
  if (help) {
    PrintAnswer(kHelp + flags.Help());
    return 0;
  }
  if (!words->empty()) {
    return UsageError("chat", absl::InvalidArgumentError(
                                  "messages come from stdin; for one question: tandem generate"));
  }
  return Converse(request, system);
}

}  // namespace tandem::cli
