#include "router/store/record_tables.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace tandem {
namespace {

constexpr char kModelSeparator = '\n';  // which no model's name has

SqlValue Flag(bool flag) { return static_cast<int64_t>(flag); }

template <typename Enum>
SqlValue Number(Enum value) {
  return static_cast<int64_t>(value);
}

void WriteSecret(SqlRow& row, const KeySecret* secret) {
  if (secret == nullptr) {
    row.insert(row.end(), 3, SqlValue());
    return;
  }
  row.push_back(Blob{std::string(secret->sha256.begin(), secret->sha256.end())});
  row.push_back(SqlTime(secret->created));
  row.push_back(SqlTime(secret->expires));
}

void ReadSecret(RowReader& row, std::vector<KeySecret>& secrets) {
  const std::optional<std::string> digest = row.MaybeBytes();
  const std::optional<absl::Time> created = row.MaybeTime();
  const std::optional<absl::Time> expires = row.MaybeTime();
  // A digest of another size opens nothing.
  if (!digest || digest->size() != Sha256Digest().size()) return;
  KeySecret& secret = secrets.emplace_back();
  std::copy(digest->begin(), digest->end(), secret.sha256.begin());
  secret.created = created.value_or(absl::UnixEpoch());
  secret.expires = expires;
}

}  // namespace

SqlRow RecordTable<Organisation>::Write(const Organisation& organisation) {
  return {organisation.id, organisation.name, Flag(organisation.disabled),
          SqlTime(organisation.created)};
}

Organisation RecordTable<Organisation>::Read(RowReader& row) {
  Organisation organisation;
  organisation.id = row.Text();
  organisation.name = row.Text();
  organisation.disabled = row.Int() != 0;
  organisation.created = row.Time();
  return organisation;
}

SqlRow RecordTable<Product>::Write(const Product& product) {
  return {product.id, product.organisation_id, product.name, Flag(product.disabled),
          SqlTime(product.created)};
}

Product RecordTable<Product>::Read(RowReader& row) {
  Product product;
  product.id = row.Text();
  product.organisation_id = row.Text();
  product.name = row.Text();
  product.disabled = row.Int() != 0;
  product.created = row.Time();
  return product;
}

SqlRow RecordTable<Key>::Write(const Key& key) {
  SqlRow row = {key.id, Number(key.kind), SqlTextOrNull(key.organisation_id),
                SqlTextOrNull(key.product_id), key.name};
  for (size_t i = 0; i < kKeySecretsMax; ++i) {
    WriteSecret(row, i < key.secrets.size() ? &key.secrets[i] : nullptr);
  }
  row.push_back(absl::StrJoin(key.models, std::string(1, kModelSeparator)));
  row.push_back(SqlTime(key.expires));
  row.push_back(SqlTime(key.revoked_at));
  row.push_back(SqlTime(key.created));
  return row;
}

Key RecordTable<Key>::Read(RowReader& row) {
  Key key;
  key.id = row.Text();
  key.kind = static_cast<KeyKind>(row.Int());
  key.organisation_id = row.TextOrEmpty();
  key.product_id = row.TextOrEmpty();
  key.name = row.Text();
  for (int i = 0; i < kKeySecretsMax; ++i) ReadSecret(row, key.secrets);
  const std::string models = row.Text();
  if (!models.empty()) key.models = absl::StrSplit(models, kModelSeparator);
  key.expires = row.MaybeTime();
  key.revoked_at = row.MaybeTime();
  key.created = row.Time();
  return key;
}

SqlRow RecordTable<LimitRule>::Write(const LimitRule& limit) {
  return {limit.id,
          Number(limit.scope),
          limit.subject,
          Number(limit.metric),
          Number(limit.window),
          limit.amount,
          limit.currency,
          limit.weights.prompt,
          limit.weights.cached,
          limit.weights.output,
          Flag(limit.shadow),
          Number(limit.on_store_failure),
          Flag(limit.removed)};
}

LimitRule RecordTable<LimitRule>::Read(RowReader& row) {
  LimitRule limit;
  limit.id = row.Text();
  limit.scope = static_cast<LimitScope>(row.Int());
  limit.subject = row.Text();
  limit.metric = static_cast<LimitMetric>(row.Int());
  limit.window = static_cast<LimitWindow>(row.Int());
  limit.amount = row.Int();
  limit.currency = row.Text();
  limit.weights.prompt = row.Int();
  limit.weights.cached = row.Int();
  limit.weights.output = row.Int();
  limit.shadow = row.Int() != 0;
  limit.on_store_failure = static_cast<OnStoreFailure>(row.Int());
  limit.removed = row.Int() != 0;
  return limit;
}

SqlRow RecordTable<Price>::Write(const Price& price) {
  return {price.id,
          price.model,
          Number(price.kind),
          price.per_million,
          price.nano_per_million,
          price.currency,
          SqlTime(price.effective_from)};
}

Price RecordTable<Price>::Read(RowReader& row) {
  Price price;
  price.id = row.Text();
  price.model = row.Text();
  price.kind = static_cast<PriceKind>(row.Int());
  price.per_million = row.Text();
  price.nano_per_million = row.Int();
  price.currency = row.Text();
  price.effective_from = row.Time();
  return price;
}

}  // namespace tandem
