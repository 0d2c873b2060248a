#include "text/rust.h"

namespace tandem::text_internal {

absl::Status FromRust(tt_status status, const RustBytes& error) {
  switch (status) {
    case TT_OK:
      return absl::OkStatus();
    case TT_ARGUMENT:
    case TT_PARSE:
    case TT_TEMPLATE:
    case TT_RAISED:
    case TT_LIMIT:
      return absl::InvalidArgumentError(error.view());
    default:
      return absl::InternalError(error.view());
  }
}

}  // namespace tandem::text_internal
