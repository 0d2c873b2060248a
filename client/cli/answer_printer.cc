#include "client/cli/answer_printer.h"

#include "absl/strings/str_cat.h"
#include "client/cli/terminal.h"

namespace tandem::cli {

void AnswerPrinter::Add(const inference::v1::GenerateResponse& response) const {
  if (several_) return;
  for (const inference::v1::OutputDelta& delta : response.outputs()) PrintAnswer(delta.text());
}

void AnswerPrinter::Finish(const Answer& answer) const {
  if (!several_) {
    if (!answer.outputs().empty()) PrintAnswer("\n");
    return;
  }
  for (size_t i = 0; i < answer.outputs().size(); ++i) {
    PrintAnswer(absl::StrCat("--- output ", i, "\n", answer.outputs()[i].text, "\n"));
  }
}

}  // namespace tandem::cli
