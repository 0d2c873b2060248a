#include <cstddef>
#include <cstdint>

#include "worker/model/assets.h"
#include "worker/model/gguf.h"
#include "worker/model/gguf_config.h"

namespace {

volatile uint8_t last_byte_read;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto gguf = tandem::ParseGguf(absl::MakeConstSpan(data, size));
  if (!gguf.ok()) return 0;
  for (const tandem::TensorInfo& tensor : gguf->tensors) {  // the sanitizer checks the ends
    last_byte_read = tensor.bytes.front();
    last_byte_read = tensor.bytes.back();
  }
  const auto spec = tandem::ParseGgufConfig(*gguf);
  if (spec.ok()) (void)tandem::ReadGgufAssets(gguf->metadata, *spec);
  return 0;
}
