#include "router/store/validate.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/utf8.h"

namespace tandem {
namespace {

constexpr size_t kIdBytesMax = 64;
constexpr size_t kTextBytesMax = 256;
constexpr size_t kJsonBytesMax = 64 << 10;
constexpr size_t kResponseBytesMax = 1 << 20;
constexpr int64_t kWeightMax = 1000000;

absl::Status Wrong(absl::string_view field, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", why));
}

absl::Status CheckId(absl::string_view field, absl::string_view id) {
  bool good = !id.empty() && id.size() <= kIdBytesMax;
  for (const char c : id) {
    good = good && (absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.');
  }
  if (good) return absl::OkStatus();
  return Wrong(field, "an id is 1 to 64 letters, digits, '-', '_' or '.'");
}

absl::Status CheckName(absl::string_view field, absl::string_view value) {
  return ValidateText(field, value, kTextBytesMax);
}

absl::Status CheckModel(absl::string_view field, absl::string_view model) {
  RETURN_IF_ERROR(CheckName(field, model));
  bool good = !model.empty();
  for (const char c : model) good = good && !absl::ascii_iscntrl(c);
  return good ? absl::OkStatus()
              : Wrong(field, "a model's name is empty or has control characters");
}

absl::Status CheckCurrency(absl::string_view field, absl::string_view currency) {
  bool good = currency.size() == 3;
  for (const char c : currency) good = good && absl::ascii_isupper(c);
  return good ? absl::OkStatus() : Wrong(field, "a currency is three capital letters, as in USD");
}

absl::Status CheckTime(absl::string_view field, absl::Time time) {
  static const absl::Time last = absl::FromCivil(absl::CivilYear(9999), absl::UTCTimeZone());
  if (time >= absl::UnixEpoch() && time <= last) return absl::OkStatus();
  return Wrong(field, "a time has to be between the years 1970 and 9999");
}

absl::Status CheckTime(absl::string_view field, const std::optional<absl::Time>& time) {
  return time ? CheckTime(field, *time) : absl::OkStatus();
}

absl::Status Check(const Organisation& organisation) {
  RETURN_IF_ERROR(CheckId("organisation.id", organisation.id));
  RETURN_IF_ERROR(CheckTime("organisation.created", organisation.created));
  return CheckName("organisation.name", organisation.name);
}

absl::Status Check(const Product& product) {
  RETURN_IF_ERROR(CheckId("product.id", product.id));
  RETURN_IF_ERROR(CheckId("product.organisation_id", product.organisation_id));
  RETURN_IF_ERROR(CheckTime("product.created", product.created));
  return CheckName("product.name", product.name);
}

absl::Status Check(const Key& key) {
  RETURN_IF_ERROR(CheckId("key.id", key.id));
  if (key.kind == KeyKind::kUser) {
    RETURN_IF_ERROR(CheckId("key.product_id", key.product_id));
    if (!key.organisation_id.empty()) {
      return Wrong("key.organisation_id", "a user key's is its product's; leave it empty");
    }
  } else {
    if (!key.product_id.empty()) {
      return Wrong("key.product_id", "a management key belongs to no product");
    }
    if (!key.organisation_id.empty()) {
      RETURN_IF_ERROR(CheckId("key.organisation_id", key.organisation_id));
    }
    if (!key.models.empty()) return Wrong("key.models", "a management key runs no model");
  }
  if (key.secrets.size() > kKeySecretsMax) {
    return Wrong("key.secrets", absl::StrCat(key.secrets.size(), " of them, at most two are live"));
  }
  for (const KeySecret& secret : key.secrets) {
    RETURN_IF_ERROR(CheckTime("key.secrets.created", secret.created));
    RETURN_IF_ERROR(CheckTime("key.secrets.expires", secret.expires));
  }
  if (key.models.size() > kKeyModelsMax) {
    return Wrong("key.models", absl::StrCat(key.models.size(), " models, at most 256"));
  }
  for (const std::string& model : key.models) RETURN_IF_ERROR(CheckModel("key.models", model));
  RETURN_IF_ERROR(CheckTime("key.expires", key.expires));
  RETURN_IF_ERROR(CheckTime("key.revoked_at", key.revoked_at));
  RETURN_IF_ERROR(CheckTime("key.created", key.created));
  return CheckName("key.name", key.name);
}

// A limit whose parts contradict each other would hold nothing back, and say nothing.
absl::Status CheckWindow(const LimitRule& limit) {
  const bool calendar = limit.window == LimitWindow::kDay || limit.window == LimitWindow::kMonth;
  switch (limit.metric) {
    case LimitMetric::kConcurrentCalls:
      if (limit.window == LimitWindow::kNone) return absl::OkStatus();
      return Wrong("limit.window", "concurrent calls have none");
    case LimitMetric::kMoney:
      if (!calendar) return Wrong("limit.window", "money is limited by day or month");
      return CheckCurrency("limit.currency", limit.currency);
    case LimitMetric::kRequests:
    case LimitMetric::kInputTokens:
    case LimitMetric::kOutputTokens:
    case LimitMetric::kTotalTokens:
      if (calendar || limit.window == LimitWindow::kMinute) return absl::OkStatus();
      return Wrong("limit.window", "requests and tokens are limited by minute, day or month");
  }
  return Wrong("limit.metric", "unknown");
}

absl::Status Check(const LimitRule& limit) {
  RETURN_IF_ERROR(CheckId("limit.id", limit.id));
  switch (limit.scope) {
    case LimitScope::kOrganisation:
    case LimitScope::kProduct:
    case LimitScope::kKey:
      RETURN_IF_ERROR(CheckId("limit.subject", limit.subject));
      break;
    case LimitScope::kModel:
      RETURN_IF_ERROR(CheckModel("limit.subject", limit.subject));
      break;
    case LimitScope::kCluster:
      if (!limit.subject.empty()) return Wrong("limit.subject", "the cluster has none");
      break;
    default:
      return Wrong("limit.scope", "unknown");
  }
  RETURN_IF_ERROR(CheckWindow(limit));
  if (limit.metric != LimitMetric::kMoney && !limit.currency.empty()) {
    return Wrong("limit.currency", "only money has one");
  }
  if (limit.amount < 0) return Wrong("limit.amount", "must not be negative");
  for (const int64_t weight : {limit.weights.prompt, limit.weights.cached, limit.weights.output}) {
    if (weight < 0 || weight > kWeightMax) {
      return Wrong("limit.weights", "each is 0 to 1000000 thousandths");
    }
  }
  switch (limit.on_store_failure) {
    case OnStoreFailure::kLocal:
    case OnStoreFailure::kAllow:
    case OnStoreFailure::kDeny:
      return absl::OkStatus();
  }
  return Wrong("limit.on_store_failure", "unknown");
}

absl::Status Check(const Price& price) {
  RETURN_IF_ERROR(CheckId("price.id", price.id));
  RETURN_IF_ERROR(CheckModel("price.model", price.model));
  if (price.kind < PriceKind::kInput || price.kind > PriceKind::kRequest) {
    return Wrong("price.kind", "unknown");
  }
  const absl::StatusOr<int64_t> nano = ParseNanoUnits(price.per_million);
  if (!nano.ok()) return Annotate(nano.status(), "price.per_million");
  if (*nano != price.nano_per_million) {
    return Wrong("price.nano_per_million", absl::StrCat("is ", price.nano_per_million, ", but ",
                                                        price.per_million, " is ", *nano));
  }
  RETURN_IF_ERROR(CheckTime("price.effective_from", price.effective_from));
  return CheckCurrency("price.currency", price.currency);
}

absl::Status CheckParty(const UsageParty& party) {
  RETURN_IF_ERROR(CheckName("usage.organisation_id", party.organisation_id));
  RETURN_IF_ERROR(CheckName("usage.product_id", party.product_id));
  RETURN_IF_ERROR(CheckName("usage.key_id", party.key_id));
  return CheckName("usage.model", party.model);
}

absl::Status Check(const Admission& admission) {
  RETURN_IF_ERROR(CheckId("usage.charge_id", admission.charge_id));
  RETURN_IF_ERROR(CheckName("usage.request_id", admission.request_id));
  RETURN_IF_ERROR(CheckName("usage.router", admission.router));
  RETURN_IF_ERROR(CheckTime("usage.admitted", admission.admitted));
  return CheckParty(admission.party);
}

absl::Status CheckTokens(const TokenUsage& tokens) {
  for (const int64_t count : {tokens.prompt, tokens.cached, tokens.output, tokens.reasoning}) {
    if (count < 0) return Wrong("usage.tokens", "must not be negative");
  }
  if (tokens.cached > tokens.prompt) return Wrong("usage.tokens.cached", "more than the prompt's");
  if (tokens.reasoning > tokens.output) {
    return Wrong("usage.tokens.reasoning", "more than the output's");
  }
  return absl::OkStatus();
}

absl::Status Check(const UsageRow& row) {
  RETURN_IF_ERROR(CheckId("usage.charge_id", row.charge_id));
  for (const std::string* text :
       {&row.request_id, &row.router, &row.model_revision, &row.finish_reason, &row.prefill_worker,
        &row.decode_worker, &row.price_version, &row.end_user}) {
    RETURN_IF_ERROR(CheckName("usage", *text));
  }
  RETURN_IF_ERROR(CheckParty(row.party));
  RETURN_IF_ERROR(CheckTokens(row.tokens));
  if (row.outcome < UsageOutcome::kOk || row.outcome > UsageOutcome::kAbandoned) {
    return Wrong("usage.outcome", "unknown");
  }
  if (row.amount_nano < 0) return Wrong("usage.amount_nano", "must not be negative");
  if (!row.currency.empty()) {
    RETURN_IF_ERROR(CheckCurrency("usage.currency", row.currency));
  }
  if (row.currency.empty() && row.amount_nano != 0) {
    return Wrong("usage.currency", "an amount needs one");
  }
  RETURN_IF_ERROR(CheckTime("usage.admitted", row.admitted));
  return CheckTime("usage.ended", row.ended);
}

absl::Status FixedOnce(bool same, absl::string_view what) {
  if (same) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(what, " never changes"));
}

absl::Status Update(const Organisation&, const Organisation&) { return absl::OkStatus(); }

absl::Status Update(const Product& stored, const Product& next) {
  return FixedOnce(stored.organisation_id == next.organisation_id, "product.organisation_id");
}

absl::Status Update(const Key& stored, const Key& next) {
  RETURN_IF_ERROR(FixedOnce(stored.kind == next.kind, "key.kind"));
  RETURN_IF_ERROR(FixedOnce(stored.product_id == next.product_id, "key.product_id"));
  RETURN_IF_ERROR(FixedOnce(stored.organisation_id == next.organisation_id, "key.organisation_id"));
  if (!stored.revoked_at) return absl::OkStatus();
  return FixedOnce(stored.revoked_at == next.revoked_at, "the time a key was revoked at");
}

absl::Status Update(const LimitRule& stored, const LimitRule& next) {
  RETURN_IF_ERROR(FixedOnce(stored.scope == next.scope, "limit.scope"));
  return FixedOnce(stored.subject == next.subject, "limit.subject");
}

absl::Status Update(const Price&, const Price&) {
  return absl::FailedPreconditionError("a price never changes; store a new one");
}

}  // namespace

absl::Status ValidateText(absl::string_view field, absl::string_view value, size_t bytes_max) {
  if (value.size() > bytes_max) {
    return Wrong(field, absl::StrCat(value.size(), " bytes, at most ", bytes_max));
  }
  if (!IsUtf8(value)) return Wrong(field, "not UTF-8");
  if (value.find('\0') != absl::string_view::npos) return Wrong(field, "has a NUL");
  return absl::OkStatus();
}

absl::Status ValidateRecord(const Record& record) {
  return std::visit([](const auto& value) { return Check(value); }, record);
}

absl::Status ValidateUpdate(const Record& stored, const Record& next) {
  return std::visit(
      [&next](const auto& before) {
        const auto* after = std::get_if<std::decay_t<decltype(before)>>(&next);
        if (after == nullptr) return absl::InternalError("two kinds of record");
        return Update(before, *after);
      },
      stored);
}

absl::Status ValidateChangeSet(const ChangeSet& changes) {
  if (changes.records.empty() || changes.records.size() > kChangeSetMax) {
    return Wrong("records",
                 absl::StrCat(changes.records.size(), " of them, want 1 to ", kChangeSetMax));
  }
  for (size_t i = 0; i < changes.records.size(); ++i) {
    RETURN_IF_ERROR(Annotate(ValidateRecord(changes.records[i]), absl::StrCat("records[", i, "]")));
  }
  const AdminCall& call = changes.call;
  if (call.principal.empty() || call.request_id.empty()) {
    return Wrong("call", "a principal and a request id are what make it happen once");
  }
  RETURN_IF_ERROR(CheckName("call.principal", call.principal));
  RETURN_IF_ERROR(CheckName("call.request_id", call.request_id));
  RETURN_IF_ERROR(CheckTime("call.when", call.when));
  if (call.response.size() > kResponseBytesMax) {
    return Wrong("call.response", absl::StrCat(call.response.size(), " bytes, at most 1 MiB"));
  }
  return ValidateAudit(changes.audit);
}

absl::Status ValidateLedgerEvent(const LedgerEvent& event) {
  return std::visit([](const auto& value) { return Check(value); }, event);
}

absl::Status ValidateAudit(const AuditEntry& entry) {
  RETURN_IF_ERROR(CheckName("audit.principal", entry.principal));
  RETURN_IF_ERROR(CheckName("audit.method", entry.method));
  RETURN_IF_ERROR(CheckName("audit.request_id", entry.request_id));
  RETURN_IF_ERROR(CheckName("audit.resource", entry.resource));
  RETURN_IF_ERROR(CheckName("audit.outcome", entry.outcome));
  RETURN_IF_ERROR(CheckTime("audit.when", entry.when));
  RETURN_IF_ERROR(ValidateText("audit.before", entry.before, kJsonBytesMax));
  return ValidateText("audit.after", entry.after, kJsonBytesMax);
}

absl::Status ValidatePage(const PageRequest& page) {
  if (page.size >= 1 && page.size <= kPageSizeMax) return absl::OkStatus();
  return Wrong("page.size", absl::StrCat(page.size, ", want 1 to ", kPageSizeMax));
}

}  // namespace tandem
