#include "base/grpc_status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/status.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

absl::Status Detailed() {
  absl::Status status = absl::InvalidArgumentError("two fields are wrong");
  status = WithReason(status, "BAD_SAMPLING", {{"model", "smol"}});
  status = WithFieldViolation(status, "sampling.top_p", "has to be above 0");
  status = WithFieldViolation(status, "sampling.seed", "has to be below 2^63");
  return WithRetryAfter(status, absl::Microseconds(1500));
}

void ExpectDetails(const absl::Status& status) {
  const auto info = DetailOf<google::rpc::ErrorInfo>(status);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason(), "BAD_SAMPLING");
  EXPECT_EQ(info->domain(), "tandem");
  EXPECT_EQ(info->metadata().at("model"), "smol");
  const auto bad = DetailOf<google::rpc::BadRequest>(status);
  ASSERT_TRUE(bad.has_value());
  ASSERT_EQ(bad->field_violations_size(), 2);
  EXPECT_EQ(bad->field_violations(1).field(), "sampling.seed");
  const auto retry = DetailOf<google::rpc::RetryInfo>(status);
  ASSERT_TRUE(retry.has_value());
  EXPECT_EQ(retry->retry_delay().nanos(), 2'000'000);  // never sooner than asked
}

TEST(GrpcStatus, CarriesCodeMessageAndDetailsThereAndBack) {
  const grpc::Status wire = ToGrpcStatus(Annotate(Detailed(), "request 7"));
  EXPECT_EQ(wire.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(wire.error_message(), "request 7: two fields are wrong");
  google::rpc::Status rpc;
  ASSERT_TRUE(rpc.ParseFromString(wire.error_details()));
  EXPECT_EQ(rpc.code(), 3);
  EXPECT_EQ(rpc.message(), wire.error_message());
  const absl::Status back = FromGrpcStatus(wire);
  EXPECT_EQ(back, Annotate(Detailed(), "request 7"));
  ExpectDetails(back);
  ExpectDetails(FromRpcStatus(ToRpcStatus(Detailed())));
}

TEST(GrpcStatus, EveryCodeKeepsItsNumber) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "m");
    EXPECT_EQ(static_cast<int>(ToGrpcStatus(status).error_code()), code);
    EXPECT_EQ(FromGrpcStatus(ToGrpcStatus(status)).code(), status.code());
  }
  google::rpc::Status from_the_future;
  from_the_future.set_code(99);
  EXPECT_EQ(FromRpcStatus(from_the_future).code(), absl::StatusCode::kUnknown);
}

TEST(GrpcStatus, WhatATrailerCannotHoldIsCut) {
  std::string long_text;
  while (long_text.size() < 5000) long_text += "\xe2\x82\xac";  // 3 bytes a character
  absl::Status status = WithReason(absl::InternalError(long_text), "R");
  google::rpc::Help large;
  large.add_links()->set_url(std::string(10'000, 'u'));
  const grpc::Status wire = ToGrpcStatus(WithDetail(status, large));
  EXPECT_EQ(wire.error_message().size(), 1023);
  EXPECT_LT(wire.error_details().size(), 4096);
  EXPECT_TRUE(DetailOf<google::rpc::ErrorInfo>(FromGrpcStatus(wire)).has_value());
  EXPECT_FALSE(DetailOf<google::rpc::Help>(FromGrpcStatus(wire)).has_value());
}

TEST(GrpcStatus, DetailsThatDoNotParseAreLeftOut) {
  const absl::Status status =
      FromGrpcStatus(grpc::Status(grpc::StatusCode::UNAVAILABLE, "m", "\xff\xff garbage"));
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable, "m"));
  EXPECT_FALSE(DetailOf<google::rpc::ErrorInfo>(status).has_value());
}

TEST(GrpcStatus, EveryCodeOfTheWorldHasAReasonAndTheRestAreOurBugs) {
  std::set<absl::string_view> reasons;
  for (const auto code :
       {absl::StatusCode::kInvalidArgument, absl::StatusCode::kUnimplemented,
        absl::StatusCode::kNotFound, absl::StatusCode::kAlreadyExists,
        absl::StatusCode::kUnavailable, absl::StatusCode::kResourceExhausted,
        absl::StatusCode::kFailedPrecondition, absl::StatusCode::kDeadlineExceeded,
        absl::StatusCode::kCancelled, absl::StatusCode::kAborted, absl::StatusCode::kDataLoss}) {
    EXPECT_NE(DefaultReason(code), "INTERNAL") << code;
    EXPECT_TRUE(reasons.insert(DefaultReason(code)).second) << code;
  }
  for (const auto code : {absl::StatusCode::kInternal, absl::StatusCode::kUnknown,
                          absl::StatusCode::kOutOfRange, absl::StatusCode::kPermissionDenied}) {
    EXPECT_EQ(DefaultReason(code), "INTERNAL") << code;
  }
}

TEST(GrpcStatus, OkStaysOk) {
  EXPECT_TRUE(ToGrpcStatus(WithReason(absl::OkStatus(), "R")).ok());
  EXPECT_THAT(FromGrpcStatus(grpc::Status::OK), IsOk());
}

}  // namespace
}  // namespace tandem
