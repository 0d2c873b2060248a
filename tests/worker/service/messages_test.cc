#include "worker/service/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/grpc_status.h"

namespace tandem {
namespace {

using google::rpc::BadRequest;

TEST(Messages, AWrongGrammarNamesItsField) {
  const absl::Status told =
      FromRpcStatus(ToWire(absl::InvalidArgumentError("guided.regex: at 1(8): no such: thing")));
  EXPECT_EQ(told.code(), absl::StatusCode::kInvalidArgument);
  const auto detail = DetailOf<BadRequest>(told);
  ASSERT_TRUE(detail.has_value());
  ASSERT_EQ(detail->field_violations_size(), 1);
  EXPECT_EQ(detail->field_violations(0).field(), "guided.regex");
  EXPECT_EQ(detail->field_violations(0).description(), "at 1(8): no such: thing");
}

TEST(Messages, TooManyOutputsNameTheirField) {
  const absl::Status told =
      FromRpcStatus(ToWire(absl::InvalidArgumentError("sampling.n: 8 outputs, at most 4")));
  const auto detail = DetailOf<BadRequest>(told);
  ASSERT_TRUE(detail.has_value());
  EXPECT_EQ(detail->field_violations(0).field(), "sampling.n");
}

TEST(Messages, SoDoesAnyFieldThatStandsAtTheBeginning) {
  for (const std::string field : {"sampling.allowed_token_ids", "stopping.min_tokens", "resume"}) {
    const auto detail = DetailOf<BadRequest>(
        FromRpcStatus(ToWire(absl::InvalidArgumentError(field + ": no token is left"))));
    ASSERT_TRUE(detail.has_value());
    EXPECT_EQ(detail->field_violations(0).field(), field);
  }
}

TEST(Messages, OtherErrorsNameNoField) {
  for (const absl::Status& status :
       {absl::InvalidArgumentError("prompt: too long"), absl::InvalidArgumentError("guided."),
        absl::InvalidArgumentError("sampling.top_k was strange: it was"),
        absl::FailedPreconditionError("guided.regex: no tokenizer")}) {
    EXPECT_FALSE(DetailOf<BadRequest>(FromRpcStatus(ToWire(status))).has_value()) << status;
  }
}

}  // namespace
}  // namespace tandem
