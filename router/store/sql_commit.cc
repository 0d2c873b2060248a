#include "router/store/sql_records.h"
#include "router/store/sql_store.h"

namespace tandem {
namespace {

template <typename T>
absl::Status RequireRecord(SqlSession& session, absl::string_view id) {
  ASSIGN_OR_RETURN(const std::optional<T> found, FindRecord<T>(session, id));
  if (found) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("there is no ", RecordTable<T>::kNoun, " '", id, "'"));
}

absl::Status RequireParents(SqlSession&, const Organisation&) { return absl::OkStatus(); }

absl::Status RequireParents(SqlSession& session, const Product& product) {
  return RequireRecord<Organisation>(session, product.organisation_id);
}

absl::Status RequireParents(SqlSession& session, const Key& key) {
  if (key.kind == KeyKind::kUser) return RequireRecord<Product>(session, key.product_id);
  if (key.organisation_id.empty()) return absl::OkStatus();
  return RequireRecord<Organisation>(session, key.organisation_id);
}

absl::Status RequireParents(SqlSession& session, const LimitRule& limit) {
  switch (limit.scope) {
    case LimitScope::kOrganisation:
      return RequireRecord<Organisation>(session, limit.subject);
    case LimitScope::kProduct:
      return RequireRecord<Product>(session, limit.subject);
    case LimitScope::kKey:
      return RequireRecord<Key>(session, limit.subject);
    default:
      return absl::OkStatus();
  }
}

absl::Status RequireParents(SqlSession&, const Price&) { return absl::OkStatus(); }

// Holds the record against what is stored, and writes it with its new revision.
template <typename T>
absl::Status Put(SqlSession& session, const T& record, int64_t revision) {
  ASSIGN_OR_RETURN(const std::optional<T> stored, FindRecord<T>(session, record.id));
  const std::string name = absl::StrCat(RecordTable<T>::kNoun, " '", record.id, "'");
  if (record.revision == 0) {
    if (stored) return absl::AlreadyExistsError(absl::StrCat(name, " exists already"));
  } else {
    if (!stored) return absl::NotFoundError(absl::StrCat("there is no ", name));
    if (stored->revision != record.revision) {
      return absl::AbortedError(absl::StrCat(name, " has changed since revision ", record.revision,
                                             ", it is at ", stored->revision,
                                             " now; read it again"));
    }
    RETURN_IF_ERROR(Annotate(ValidateUpdate(*stored, record), name));
  }
  RETURN_IF_ERROR(Annotate(RequireParents(session, record), name));
  return WriteRecord(session, record, revision);
}

absl::StatusOr<Committed> Replay(const AdminCall& first, const AdminCall& again, int64_t revision) {
  if (first.request_digest != again.request_digest) {
    return absl::InvalidArgumentError(
        absl::StrCat("request id '", again.request_id,
                     "' was used for another request; give each request an id of its own"));
  }
  return Committed{.replayed = true, .response = first.response, .revision = revision};
}

absl::StatusOr<Committed> CommitIn(SqlSession& session, const ChangeSet& changes) {
  // First of all, so that of two equal calls at once the second finds what the first has written.
  ASSIGN_OR_RETURN(int64_t revision, LockCounter(session, "revision"));
  const AdminCall& call = changes.call;
  ASSIGN_OR_RETURN(const std::optional<AdminCall> before,
                   ReadAdminCall(session, call.principal, call.request_id));
  if (before) return Replay(*before, call, revision);
  for (const Record& record : changes.records) {
    ++revision;
    RETURN_IF_ERROR(
        std::visit([&](const auto& value) { return Put(session, value, revision); }, record));
  }
  RETURN_IF_ERROR(SetCounter(session, "revision", revision));
  RETURN_IF_ERROR(WriteAudit(session, {changes.audit}));
  RETURN_IF_ERROR(WriteAdminCall(session, call));
  return Committed{.replayed = false, .response = call.response, .revision = revision};
}

}  // namespace

absl::StatusOr<Committed> SqlStore::Commit(const ChangeSet& changes) {
  RETURN_IF_ERROR(ValidateChangeSet(changes));
  Committed committed;
  RETURN_IF_ERROR(database_->Transact(SqlAccess::kAdmin, [&](SqlSession& session) -> absl::Status {
    ASSIGN_OR_RETURN(committed, CommitIn(session, changes));
    return absl::OkStatus();
  }));
  return committed;
}

}  // namespace tandem
