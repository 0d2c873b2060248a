#pragma once
#include "tandem/worker/v1/worker.pb.h"
#include "worker/engine/engine.h"
#include "worker/engine/output.h"

// What the engine says, as messages of tandem.worker.v1.
namespace tandem {

worker::v1::SequenceStep ToProto(const SequenceOutput& output);
worker::v1::Load ToProto(const EngineLoad& load);
worker::v1::Heartbeat ToProto(const EngineProgress& progress);
worker::v1::Refused ToRefused(uint64_t handle, const absl::Status& status);

// With ErrorInfo, whose metadata says whether a `retry` is "safe" or "unsafe"; every UNAVAILABLE
// says when to try again too.
google::rpc::Status ToWire(const absl::Status& status);

}  // namespace tandem
