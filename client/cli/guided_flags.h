#pragma once
#include <string>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "client/cli/flags.h"
#include "tandem/inference/v1/inference.pb.h"

namespace tandem::cli {

// The flags that say which language an answer has to be a sentence of. What is given is sent, even
// if it is empty: the router says what is wrong with it.
class GuidedFlags {
 public:
  void Declare(Flags* flags);
  // Reads the file that is named, if one is. InvalidArgument when more than one flag was given,
  // NotFound and others name the flag and the file.
  absl::Status Set(inference::v1::GenerateRequest* request) const;

 private:
  absl::optional<std::string> json_schema_, ebnf_;  // files
  absl::optional<std::string> regex_, choice_;
};

}  // namespace tandem::cli
