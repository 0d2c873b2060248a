#pragma once
#include <cstdint>

#include "base/violations.h"
#include "tandem/inference/v1/sampling.pb.h"

namespace tandem {

// What a client's request and a worker's Submit share, held to base/request_limits.h: a router
// checks its clients with these, and a worker its routers.
//   units   fields are named as from the message that has all of them: "sampling.top_p"
//   errors  each wrong value is a violation; where a field has too many entries, that is the one
//           and nobody looks at them
void CheckSampling(const inference::v1::SamplingParams& sampling, Violations* v);
void CheckStopping(const inference::v1::StoppingParams& stopping, Violations* v);
void CheckGuided(const inference::v1::GuidedParams& guided, Violations* v);
void CheckLogprobs(const inference::v1::ResponseOptions& response, Violations* v);
// Their token ids: 0 to `vocabulary` - 1.
void CheckVocabulary(const inference::v1::SamplingParams& sampling,
                     const inference::v1::StoppingParams& stopping, uint32_t vocabulary,
                     Violations* v);

}  // namespace tandem
