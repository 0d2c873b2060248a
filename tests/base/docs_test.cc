#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/config.h"
#include "base/config_value.h"
#include "base/metric_list.h"
#include "tandem/config/v1/router.pb.h"
#include "tandem/config/v1/worker.pb.h"

namespace tandem {
namespace {

// Compares a generated page with the one in docs/, or rewrites it when TANDEM_UPDATE_DOCS is set.
void ExpectFresh(const std::string& name, const std::string& want) {
  const std::string path = std::string(TANDEM_SOURCE_DIR "/docs/") + name;
  if (std::getenv("TANDEM_UPDATE_DOCS") != nullptr) {
    std::ofstream page(path);
    ASSERT_TRUE(page << want) << path;
    return;
  }
  std::stringstream have;
  have << std::ifstream(path).rdbuf();
  EXPECT_TRUE(have.str() == want) << "docs/" << name << " is stale; refresh it with\n"
                                  << "  TANDEM_UPDATE_DOCS=1 build/dev/bin/base_docs_test";
}

void ExpectDeclared(const google::protobuf::Descriptor* type) {
  for (int i = 0; i < type->field_count(); ++i) {
    const google::protobuf::FieldDescriptor* field = type->field(i);
    SCOPED_TRACE(field->full_name());
    if (IsSection(field)) {
      ExpectDeclared(field->message_type());
      continue;
    }
    const config::v1::FieldRule& rule = RuleOf(field);
    EXPECT_FALSE(rule.doc().empty()) << "say what it does";
    EXPECT_FALSE(field->is_repeated() && rule.max().empty()) << "a list needs a largest size";
    const bool text = field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_STRING;
    EXPECT_FALSE(!field->is_repeated() && !text && rule.default_value().empty())
        << "only a text or a list may go without a default";
  }
}

TEST(Docs, EveryFieldIsDeclaredInFull) {
  ExpectDeclared(config::v1::RouterConfig::descriptor());
  ExpectDeclared(config::v1::WorkerConfig::descriptor());
}

TEST(Docs, ConfigurationPageIsFresh) {
  ExpectFresh("CONFIG.md",
              ConfigMarkdown({{"tandem-router", config::v1::RouterConfig::descriptor()},
                              {"tandem-worker", config::v1::WorkerConfig::descriptor()}}));
}

TEST(Docs, MetricsPageIsFresh) {
  MetricRegistry router, worker;
  const RouterMetrics router_metrics(&router);
  const GatewayMetrics gateway_metrics(&router);
  DeclareCertificateExpiry(&router);
  DeclareBuildInfo(&router, "tandem-router");
  const WorkerMetrics worker_metrics(&worker);
  DeclareCertificateExpiry(&worker);
  DeclareBuildInfo(&worker, "tandem-worker");
  ExpectFresh("METRICS.md",
              MetricsMarkdown({{"tandem-router", &router}, {"tandem-worker", &worker}}));
}

}  // namespace
}  // namespace tandem
