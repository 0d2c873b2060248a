#pragma once
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "router/store/tenants.h"

namespace tandem {

// Who calls: what any way to prove it (a key, a token, a certificate) comes down to.
struct Principal {
  KeyKind kind = KeyKind::kUser;
  std::string organisation_id;  // of a management key: empty for the whole cluster
  std::string product_id;       // of a user
  std::string key_id;
  std::shared_ptr<const std::vector<std::string>> models;  // that it may name; null: all

  // Whether it may run this model: a management key runs none.
  bool Allows(absl::string_view model) const;
};

}  // namespace tandem
