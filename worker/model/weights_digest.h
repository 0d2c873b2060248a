#pragma once
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "worker/model/mapped_file.h"
#include "worker/model/spec.h"
#include "worker/model/weight_table.h"

namespace tandem {

struct WeightsDigestOptions {
  int threads = 2;
  // Where digests are remembered by the files' device, inode, size and mtime; "": nowhere. That it
  // can't be read or written costs time, and is no error.
  std::string cache_folder;
};

// Hex SHA-256 over all that decides a token's KV: the spec's numbers, and the name, type, shape
// and bytes of every weight. Two models with equal digests are interchangeable.
//   threads reads the files with options.threads; blocks until done
std::string DigestOfWeights(const ModelSpec& spec, const WeightTable& weights,
                            const std::vector<MappedFile>& files,
                            const WeightsDigestOptions& options);

}  // namespace tandem
