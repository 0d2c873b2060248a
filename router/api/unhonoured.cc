#include "router/api/unhonoured.h"

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/grpc_status.h"

namespace tandem {
namespace {

namespace iv1 = inference::v1;

struct Asked {
  bool asked;
  const char* field;
};

absl::Status RefuseAsked(absl::Span<const Asked> fields) {
  for (const Asked& one : fields) {
    if (!one.asked) continue;
    return WithReason(
        absl::UnimplementedError(absl::StrCat(one.field, ": not supported yet; leave it out")),
        "FIELD_NOT_SUPPORTED", {{"field", one.field}});
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckHonoured(const iv1::GenerateRequest& request) {
  const Asked fields[] = {
      {!request.end_user_id().empty(), "end_user_id"},
      {!request.lora_name().empty(), "lora_name"},
  };
  if (absl::Status refused = RefuseAsked(fields); !refused.ok()) return refused;
  return CheckHonoured(request.chat());
}

absl::Status CheckHonoured(const iv1::ChatInput& chat) {
  const iv1::ToolChoice& tool_choice = chat.tool_choice();
  return RefuseAsked({
      {tool_choice.mode() == iv1::ToolChoice::MODE_REQUIRED, "chat.tool_choice.mode"},
      {!tool_choice.name().empty(), "chat.tool_choice.name"},
  });
}

}  // namespace tandem
