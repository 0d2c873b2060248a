#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error_reason.h"
#include "base/grpc_status.h"
#include "base/status.h"
#include "router/api/failover.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

AttemptFailure Split(LegKind leg, LegEnd how, absl::Status why) {
  const bool decode = leg == LegKind::kDecode;
  return {.leg = leg,
          .how = how,
          .accepted = true,
          .why = std::move(why),
          .worker = decode ? "d" : "p",
          .partner = decode ? "p" : "d"};
}

AttemptFailure Whole(LegEnd how, absl::Status why) {
  return {.how = how, .accepted = true, .why = std::move(why), .worker = "u"};
}

AttemptFailure Death(const std::string& worker, bool accepted = true) {
  return {.how = LegEnd::kSilent,
          .accepted = accepted,
          .why = absl::UnavailableError("worker " + worker + " was lost"),
          .worker = worker};
}

TEST(AttemptLog, AnErrorThatNoOtherWorkerCanMendIsTheRequestsEnd) {
  for (const absl::StatusCode code :
       {absl::StatusCode::kInvalidArgument, absl::StatusCode::kInternal,
        absl::StatusCode::kUnimplemented, absl::StatusCode::kFailedPrecondition}) {
    AttemptLog log({});
    EXPECT_THAT(log.Fail(Whole(LegEnd::kFailed, absl::Status(code, "so"))), StatusIs(code, "so"));
    EXPECT_EQ(log.attempt(), 1u);
  }
}

TEST(AttemptLog, WhatOnlyTheRouterCanHaveMadeWrongIsNotTheClientsFault) {
  for (const absl::StatusCode code :
       {absl::StatusCode::kInvalidArgument, absl::StatusCode::kUnimplemented}) {
    AttemptLog log({});
    AttemptFailure taken = Death("a");
    taken.checked = true;
    EXPECT_TRUE(log.Fail(taken).ok());
    EXPECT_THAT(log.Fail(Whole(LegEnd::kRefused, absl::Status(code, "resume[0]: too long"))),
                StatusIs(absl::StatusCode::kInternal, HasSubstr("attempt 2")));
  }
  AttemptLog first({});
  EXPECT_THAT(first.Fail(Whole(LegEnd::kRefused,
                               WithFieldViolation(absl::InvalidArgumentError("peer: it is empty"),
                                                  "peer", "it is empty"))),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("peer")));
}

TEST(AttemptLog, WhatNoWorkerHasCheckedYetMayBeTheClientsFaultInAnyAttempt) {
  AttemptLog log({});
  EXPECT_TRUE(log.Fail(Death("a", /*accepted=*/false)).ok());
  EXPECT_THAT(log.Fail(Whole(LegEnd::kRefused, absl::InvalidArgumentError("sampling.seed"))),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(AttemptLog, OnlyAHandoffHasADeadlineThatIsNotTheClients) {
  AttemptLog log({});
  const absl::Status late = absl::DeadlineExceededError("the lease ended");
  EXPECT_THAT(log.Fail(Whole(LegEnd::kFailed, late)),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_TRUE(log.Fail(Split(LegKind::kPrefill, LegEnd::kFailed, late)).ok());
  EXPECT_EQ(log.attempt(), 2u);
}

TEST(AttemptLog, AWorkerThatReportsItsPeersFailureIsTrustedAndThePeerAvoided) {
  AttemptLog log({});
  EXPECT_TRUE(
      log.Fail(Split(LegKind::kPrefill, LegEnd::kFailed, absl::UnavailableError("the link broke")))
          .ok());
  EXPECT_THAT(log.avoid(), ElementsAre("d"));
  EXPECT_THAT(log.exclude(), IsEmpty());
  EXPECT_TRUE(log.may_wait());
}

TEST(AttemptLog, WhereTwoWorkersDoNotGoTogetherOneOfThemDoesBothJobs) {
  const AttemptFailure unlike = Split(LegKind::kPrefill, LegEnd::kFailed,
                                      absl::FailedPreconditionError("KV layouts differ in dtype"));
  EXPECT_TRUE(PairFailed(unlike));
  AttemptLog log({});
  EXPECT_FALSE(log.whole());
  EXPECT_TRUE(log.Fail(unlike).ok());
  EXPECT_TRUE(log.whole());
  EXPECT_THAT(log.avoid(), IsEmpty());
  EXPECT_THAT(log.exclude(), IsEmpty());
  EXPECT_TRUE(log.may_wait());
  const AttemptFailure lacks =
      Whole(LegEnd::kRefused, absl::FailedPreconditionError("no tokenizer.json"));
  EXPECT_FALSE(PairFailed(lacks));
  EXPECT_THAT(log.Fail(lacks), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(AttemptLog, ADecodeWorkerThatReportsDamageMayItselfDoIt) {
  AttemptLog log({});
  EXPECT_TRUE(
      log.Fail(Split(LegKind::kDecode, LegEnd::kFailed, absl::DataLossError("digest"))).ok());
  EXPECT_THAT(log.avoid(), ElementsAre("d", "p"));
}

TEST(AttemptLog, WhoeverHasNoRoomIsNotAskedAgainNorWaitedFor) {
  for (const LegEnd how : {LegEnd::kRefused, LegEnd::kFailed}) {
    AttemptLog log({});
    EXPECT_TRUE(log.Fail(Whole(how, absl::UnavailableError("the queue is full"))).ok());
    EXPECT_THAT(log.exclude(), ElementsAre("u"));
    EXPECT_FALSE(log.may_wait());
  }
}

TEST(AttemptLog, OfTwoWorkersOnlyTheOneWhoseQueueWasTooLongIsPassedOver) {
  const absl::Status waited =
      WithReason(absl::UnavailableError("too few blocks became free"), kQueueTimeoutReason);
  for (const LegKind leg : {LegKind::kPrefill, LegKind::kDecode}) {
    AttemptLog log({});
    EXPECT_TRUE(log.Fail(Split(leg, LegEnd::kFailed, waited)).ok());
    EXPECT_THAT(log.exclude(), ElementsAre(leg == LegKind::kPrefill ? "p" : "d"));
    EXPECT_THAT(log.avoid(), IsEmpty());
    EXPECT_FALSE(log.may_wait());
  }
}

TEST(AttemptLog, AWorkerThatIsStoppingIsAvoidedAndItsSuccessorWaitedFor) {
  AttemptLog log({});
  EXPECT_TRUE(log.Fail(Whole(LegEnd::kRefused,
                             WithReason(absl::UnavailableError("draining"), kDrainingReason)))
                  .ok());
  EXPECT_THAT(log.avoid(), ElementsAre("u"));
  EXPECT_THAT(log.exclude(), IsEmpty());
  EXPECT_TRUE(log.may_wait());
}

TEST(AttemptLog, AWorkerThatStopsAndCutsOffWhatRunsHasNotDiedOfIt) {
  AttemptLog log({.max_deaths = 1});
  AttemptFailure cut_off = Death("u");
  cut_off.why = WithReason(cut_off.why, kDrainingReason);
  EXPECT_EQ(FailureName(cut_off), "draining");
  EXPECT_TRUE(log.Fail(cut_off).ok());
  EXPECT_FALSE(log.quarantined());
  EXPECT_THAT(log.avoid(), ElementsAre("u"));
  EXPECT_TRUE(log.may_wait());
  EXPECT_FALSE(log.Fail(Death("v")).ok());
  EXPECT_TRUE(log.quarantined());
}

TEST(AttemptLog, WhatEndsTheLastHandoffIsNotToldAsTheClientsOwnDoing) {
  for (const auto& [code, reason] :
       {std::pair(absl::StatusCode::kDeadlineExceeded, "HANDOFF_TIMEOUT"),
        {absl::StatusCode::kCancelled, "HANDOFF_ABORTED"}}) {
    for (const uint32_t attempts : {1, 2}) {
      AttemptLog log({.max_attempts = attempts});
      for (uint32_t i = 1; i < attempts; ++i) EXPECT_TRUE(log.Fail(Death("a")).ok());
      const absl::Status end =
          log.Fail(Split(LegKind::kPrefill, LegEnd::kFailed, absl::Status(code, "the lease")));
      EXPECT_THAT(end, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("the lease")));
      EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(end)->reason(), reason);
    }
  }
}

TEST(AttemptLog, TheLastAttemptsErrorSaysWhichItWas) {
  AttemptLog log({.max_attempts = 2});
  EXPECT_TRUE(log.Fail(Death("a", /*accepted=*/false)).ok());
  EXPECT_THAT(log.Fail(Death("b", /*accepted=*/false)),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("attempt 2 of 2")));
}

TEST(AttemptLog, ARequestOfWhichWorkersDieIsQuarantinedAndNamesThem) {
  AttemptLog log({.max_attempts = 9, .max_deaths = 2});
  EXPECT_TRUE(log.Fail(Death("a")).ok());
  EXPECT_TRUE(log.Fail(Death("b", /*accepted=*/false)).ok()) << "it died before it had the request";
  const absl::Status end = log.Fail(Death("c"));
  EXPECT_THAT(end, StatusIs(absl::StatusCode::kFailedPrecondition,
                            HasSubstr("attempt 1: worker a was lost; attempt 3: worker c")));
  const auto info = DetailOf<google::rpc::ErrorInfo>(end);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason(), "REQUEST_QUARANTINED");
  EXPECT_EQ(info->metadata().at("retry"), "unsafe");
}

AttemptFailure Broken(const std::string& worker, uint64_t incarnation) {
  AttemptFailure failure = Death(worker);
  failure.how = LegEnd::kLost;
  failure.incarnation = incarnation;
  return failure;
}

TEST(AttemptLog, AConnectionThatBreaksIsADeathOnlyWhereTheProcessIsGone) {
  AttemptLog log({.max_attempts = 9, .max_deaths = 2});
  EXPECT_TRUE(log.Fail(Broken("a", 1)).ok());
  EXPECT_TRUE(log.Judge({Fate::kUnknown}, /*last_word=*/false).ok()) << "one may try";
  EXPECT_TRUE(log.Fail(Broken("b", 1)).ok());
  EXPECT_THAT(log.Judge({Fate::kDied, Fate::kUnknown}, /*last_word=*/false),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_FALSE(log.quarantined());
  EXPECT_TRUE(log.Judge({Fate::kAlive, Fate::kAlive}, /*last_word=*/false).ok());
  EXPECT_TRUE(log.losses().empty()) << "a only did not answer for a moment";
  EXPECT_TRUE(log.Fail(Broken("c", 1)).ok());
  EXPECT_TRUE(log.Judge({Fate::kDied}, /*last_word=*/false).ok());
  EXPECT_TRUE(log.Fail(Broken("d", 1)).ok());
  EXPECT_THAT(log.Judge({Fate::kDied, Fate::kUnknown}, /*last_word=*/true),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("attempt 3: worker c was lost; attempt 4: worker d")));
  EXPECT_TRUE(log.quarantined());
}

TEST(AttemptLog, AtTheLastAttemptOnlyItsOwnLossIsGuessed) {
  for (const Fate fate : {Fate::kUnknown, Fate::kDied}) {
    AttemptLog log({.max_attempts = 3, .max_deaths = 3});
    EXPECT_TRUE(log.Fail(Broken("a", 1)).ok());
    EXPECT_TRUE(log.Judge({fate}, /*last_word=*/false).ok());
    EXPECT_TRUE(log.Fail(Broken("b", 1)).ok());
    EXPECT_TRUE(log.Judge({fate, fate}, /*last_word=*/false).ok());
    EXPECT_FALSE(log.Fail(Broken("c", 1)).ok());
    EXPECT_EQ(log.quarantined(), fate == Fate::kDied);
  }
}

TEST(AttemptLog, AWorkersFateIsReadFromItsPlace) {
  const auto fate = [](const std::string& address, uint64_t incarnation, WorkerState state,
                       bool unanswered = false) {
    auto facts = std::make_shared<WorkerFacts>();
    facts->address = address;
    facts->incarnation = incarnation;
    facts->state = state;
    facts->unanswered = unanswered;
    return FatesOf({{.worker = "a", .incarnation = 1}}, {{std::move(facts), 0}})[0];
  };
  EXPECT_EQ(fate("a", 1, WorkerState::kReady), Fate::kAlive);
  EXPECT_EQ(fate("a", 1, WorkerState::kDraining), Fate::kAlive);
  EXPECT_EQ(fate("a", 1, WorkerState::kLost), Fate::kUnknown);
  EXPECT_EQ(fate("a", 1, WorkerState::kLost, /*unanswered=*/true), Fate::kDied);
  EXPECT_EQ(fate("a", 2, WorkerState::kReady), Fate::kDied) << "its successor";
  EXPECT_EQ(fate("b", 1, WorkerState::kReady), Fate::kDied) << "nobody leads to it";
}

}  // namespace
}  // namespace tandem
