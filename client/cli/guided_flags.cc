#include "client/cli/guided_flags.h"

#include "absl/strings/str_split.h"
#include "base/status.h"
#include "client/cli/text_input.h"

namespace tandem::cli {

void GuidedFlags::Declare(Flags* flags) {
  flags->Text("json-schema", "FILE", "the answer validates under this JSON schema", &json_schema_);
  flags->Text("regex", "R", "the answer matches this regular expression as a whole", &regex_);
  flags->Text("choice", "A,B", "the answer is one of these", &choice_);
  flags->Text("ebnf", "FILE", "the answer is a sentence of this grammar (Lark, from `start`)",
              &ebnf_);
}

absl::Status GuidedFlags::Set(inference::v1::GenerateRequest* request) const {
  if (json_schema_.has_value() + regex_.has_value() + choice_.has_value() + ebnf_.has_value() > 1) {
    return absl::InvalidArgumentError(
        "--json-schema, --regex, --choice and --ebnf exclude one another");
  }
  if (regex_) request->mutable_guided()->set_regex(*regex_);
  if (choice_) {
    for (const absl::string_view value : absl::StrSplit(*choice_, ',')) {
      request->mutable_guided()->mutable_choice()->add_values(std::string(value));
    }
  }
  if (json_schema_) {
    absl::StatusOr<std::string> schema = ReadTextFile(*json_schema_);
    if (!schema.ok()) return Annotate(schema.status(), "--json-schema");
    request->mutable_guided()->set_json_schema(*std::move(schema));
  }
  if (ebnf_) {
    absl::StatusOr<std::string> grammar = ReadTextFile(*ebnf_);
    if (!grammar.ok()) return Annotate(grammar.status(), "--ebnf");
    request->mutable_guided()->set_ebnf(*std::move(grammar));
  }
  return absl::OkStatus();
}

}  // namespace tandem::cli
