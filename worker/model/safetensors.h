#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/model/tensor_set.h"

namespace tandem {

// The tensors of one safetensors file: 8 bytes of header length, the JSON header, the data.
//   errors  InvalidArgument, naming the tensor where one is at fault, for a header that is cut off,
//           above 100 MB, nested, or not JSON; a duplicate name; an unknown type; a shape whose
//           bytes differ from its offsets; data that overlaps, leaves a hole, or ends elsewhere
//           than the file. No file content makes this read outside `file`.
//   life    the tensors' bytes point into `file`
absl::StatusOr<std::vector<TensorInfo>> ParseSafetensors(absl::Span<const uint8_t> file);

// The tensors of a Hugging Face folder: model.safetensors, else the shards that
// model.safetensors.index.json lists. Shards are files of the folder itself; a name with a path in
// it is refused.
absl::StatusOr<TensorSet> OpenSafetensorsFolder(const std::string& folder);

}  // namespace tandem
