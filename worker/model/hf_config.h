#pragma once
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/model/spec.h"

namespace tandem {

// The spec in a Hugging Face folder's config.json. Members that are absent have the defaults of the
// architecture's own configuration class. `generation_config` is that file's text or "": its
// eos_token_id, one or a list, wins over config.json's.
//   errors  Unimplemented, naming what, for an architecture, activation, rope scaling or
//           quantisation that this build lacks; InvalidArgument, naming the key, for the rest
absl::StatusOr<ModelSpec> ParseHfConfig(absl::string_view config,
                                        absl::string_view generation_config);

}  // namespace tandem
