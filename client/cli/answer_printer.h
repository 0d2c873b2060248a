#pragma once
#include "client/answer.h"
#include "tandem/inference/v1/inference.pb.h"

namespace tandem::cli {

// Writes an answer to stdout: one output as it comes, several one after another once they are
// whole, each under its index.
//   life    Add* -> Finish
class AnswerPrinter {
 public:
  explicit AnswerPrinter(bool several) : several_(several) {}

  void Add(const inference::v1::GenerateResponse& response) const;
  // `answer`: all that was added.
  void Finish(const Answer& answer) const;

 private:
  const bool several_;
};

}  // namespace tandem::cli
