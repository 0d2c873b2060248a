#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/block_hash.h"

// Who uses the cluster: organisation > product > key. Ids are chosen by whoever creates the record
// (letters, digits, '-', '_', '.', at most 64 of them), since the answer to a caller has to be
// known before the transaction that makes it true.
namespace tandem {

struct Organisation {
  std::string id;
  std::string name;       // for people; at most 256 bytes
  bool disabled = false;  // none of its keys is honoured
  absl::Time created;     // to the microsecond, like every time in the store
  int64_t revision = 0;   // set by the store; see Store::Commit
};

// What a customer's users see: the unit of license thresholds.
struct Product {
  std::string id;
  std::string organisation_id;  // never changes
  std::string name;
  bool disabled = false;
  absl::Time created;
  int64_t revision = 0;
};

enum class KeyKind {
  kUser,        // runs inference for one product
  kManagement,  // administers one organisation, or the whole cluster; never runs inference
};

// One live secret of a key. The secret itself is never stored.
struct KeySecret {
  Sha256Digest sha256{};
  absl::Time created;
  std::optional<absl::Time> expires;  // none: with the key
};

constexpr int kKeySecretsMax = 2;   // two live ones, so that a secret can be rotated
constexpr int kKeyModelsMax = 256;  // entries of an allow-list

struct Key {
  std::string id;
  KeyKind kind = KeyKind::kUser;  // never changes, as the two below
  std::string organisation_id;    // of a management key; empty: it manages the whole cluster
  std::string product_id;         // of a user key
  std::string name;
  std::vector<KeySecret> secrets;   // at most kKeySecretsMax; none: the key opens nothing
  std::vector<std::string> models;  // models and aliases that it may name; empty: all
  std::optional<absl::Time> expires;
  std::optional<absl::Time> revoked_at;  // once set, it stays
  absl::Time created;
  int64_t revision = 0;
};

}  // namespace tandem
