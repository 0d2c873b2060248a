#pragma once
#include "tandem/inference/v1/inference.pb.h"
#include "text/chat_template.h"

namespace tandem {

// The chat as a template sees it, in the shapes that Hugging Face templates expect. `now` and
// `special_tokens` are left to the caller. Arguments of tool calls become objects where they are
// valid JSON.
ChatRequest ToChatRequest(const inference::v1::ChatInput& chat);

}  // namespace tandem
