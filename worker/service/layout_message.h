#pragma once
#include "absl/status/statusor.h"
#include "kvstore/types.h"
#include "tandem/kv/v1/kv.pb.h"

// A KV layout as the message that workers and routers compare.
namespace tandem {

kv::v1::KvLayout ToProto(const KvLayout& layout);
//   errors  InvalidArgument a name longer than 1,024 bytes
absl::StatusOr<KvLayout> FromProto(const kv::v1::KvLayout& message);

}  // namespace tandem
