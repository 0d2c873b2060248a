#pragma once
#include "absl/status/status.h"
#include "router/api/model_catalog.h"
#include "router/placement/worker_table.h"
#include "tandem/inference/v1/inference.pb.h"

namespace tandem {

// What clients are told of a model; counts only workers that are ready.
inference::v1::Model DescribeModel(const ServedModel& model, const WorkerSnapshot& workers);

// One page of the models, by name. InvalidArgument: page_size.
absl::Status ListModels(const ModelCatalog::Models& models, const WorkerSnapshot& workers,
                        const inference::v1::ListModelsRequest& request,
                        inference::v1::ListModelsResponse* response);

}  // namespace tandem
