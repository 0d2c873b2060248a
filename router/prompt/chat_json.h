#pragma once
#include "absl/status/statusor.h"
#include "tandem/inference/v1/inference.pb.h"
#include "text/chat_template.h"

namespace tandem {

// The chat as a template sees it, in the shapes that Hugging Face templates expect. `now` and
// `special_tokens` are left to the caller. Arguments of tool calls become objects where they are
// valid JSON.
//   errors  InvalidArgument naming the arguments that nest deeper than 64
absl::StatusOr<ChatRequest> ToChatRequest(const inference::v1::ChatInput& chat);

}  // namespace tandem
