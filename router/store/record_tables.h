#pragma once
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "router/store/sql.h"
#include "router/store/store.h"

namespace tandem {

// How each kind of record lies in its table: a noun for errors, the table, its columns (`id` first;
// `revision`, which every table has, left out), the column that a listing may be narrowed by, and
// the two directions between a record and those columns. Times lose what is below a microsecond.
template <typename T>
struct RecordTable;

template <>
struct RecordTable<Organisation> {
  static constexpr absl::string_view kNoun = "organisation", kName = "organisations";
  static constexpr absl::string_view kParent = "";
  static constexpr absl::string_view kColumns[] = {"id", "name", "disabled", "created_us"};
  static SqlRow Write(const Organisation& organisation);
  static Organisation Read(RowReader& row);
};

template <>
struct RecordTable<Product> {
  static constexpr absl::string_view kNoun = "product", kName = "products";
  static constexpr absl::string_view kParent = "organisation_id";
  static constexpr absl::string_view kColumns[] = {"id", "organisation_id", "name", "disabled",
                                                   "created_us"};
  static SqlRow Write(const Product& product);
  static Product Read(RowReader& row);
};

template <>
struct RecordTable<Key> {
  static constexpr absl::string_view kNoun = "key", kName = "keys";
  static constexpr absl::string_view kParent = "product_id";
  static constexpr absl::string_view kColumns[] = {"id",
                                                   "kind",
                                                   "organisation_id",
                                                   "product_id",
                                                   "name",
                                                   "secret1",
                                                   "secret1_created_us",
                                                   "secret1_expires_us",
                                                   "secret2",
                                                   "secret2_created_us",
                                                   "secret2_expires_us",
                                                   "models",
                                                   "expires_us",
                                                   "revoked_us",
                                                   "created_us"};
  static SqlRow Write(const Key& key);
  static Key Read(RowReader& row);
};

template <>
struct RecordTable<LimitRule> {
  static constexpr absl::string_view kNoun = "limit", kName = "limits";
  static constexpr absl::string_view kParent = "subject";
  static constexpr absl::string_view kColumns[] = {"id",
                                                   "scope",
                                                   "subject",
                                                   "metric",
                                                   "time_window",
                                                   "amount",
                                                   "currency",
                                                   "weight_prompt",
                                                   "weight_cached",
                                                   "weight_output",
                                                   "shadow",
                                                   "on_store_failure",
                                                   "removed"};
  static SqlRow Write(const LimitRule& limit);
  static LimitRule Read(RowReader& row);
};

template <>
struct RecordTable<Price> {
  static constexpr absl::string_view kNoun = "price", kName = "prices";
  static constexpr absl::string_view kParent = "model";
  static constexpr absl::string_view kColumns[] = {
      "id", "model", "kind", "per_million", "nano_per_million", "currency", "effective_us"};
  static SqlRow Write(const Price& price);
  static Price Read(RowReader& row);
};

}  // namespace tandem
