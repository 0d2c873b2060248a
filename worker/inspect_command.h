#pragma once
#include "absl/types/span.h"

namespace tandem {

// tandem-worker --inspect PATH [--json] [--quant int8|int4|stored [--text FILE] [--tokens N]
// [--activations int8]]: what a model is, and what quantising its weights would cost it.
//   args    what follows --inspect
// Returns the exit status; the answer is on stdout, what was wrong on stderr.
int RunInspect(absl::Span<const char* const> args);

}  // namespace tandem
