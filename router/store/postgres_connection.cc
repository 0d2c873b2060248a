#include "router/store/postgres_connection.h"

#include <libpq-fe.h>

#include <algorithm>
#include <map>
#include <pqxx/pqxx>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "base/status.h"

namespace tandem {

struct PostgresConnection::Link {
  explicit Link(const std::string& settings) : connection(settings) {
    // A connection that came back by itself would be without our settings. The newer libpqxx,
    // whose connections don't, is why this is deprecated.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    connection.inhibit_reactivation(true);
#pragma GCC diagnostic pop
  }
  pqxx::connection connection;
  pqxx::quiet_errorhandler quiet{connection};           // notices would go to stderr
  absl::flat_hash_map<std::string, std::string> names;  // of prepared statements, by their text
  bool broken = false;
  bool lost_race = false;  // the transaction that runs, or ran last
};

namespace {

// Types of columns, as PostgreSQL numbers them.
constexpr pqxx::oid kBytea = 17, kInt8 = 20, kInt2 = 21, kInt4 = 23;

absl::Status Unavailable(absl::string_view message, absl::string_view reason) {
  return WithReasonName(absl::UnavailableError(message), reason);
}

// What a server means by the five letters of its errors; see its manual, appendix A.
absl::Status FromSqlState(absl::string_view state, absl::string_view message) {
  if (state == "53100") {
    return WithReasonName(absl::ResourceExhaustedError(message), "STORE_FULL");
  }
  if (state == "25006") return Unavailable(message, "STORE_READ_ONLY");
  // Connection trouble, too little of something, an operator, or a lock that took too long.
  for (const absl::string_view gone : {"08", "53", "57", "55P03", "58"}) {
    if (absl::StartsWith(state, gone)) return Unavailable(message, "STORE_UNAVAILABLE");
  }
  if (state == "XX001" || state == "XX002") {
    return WithReasonName(absl::DataLossError(message), "STORE_DAMAGED");
  }
  if (absl::StartsWith(state, "28") || state == "42501" || state == "3D000" || state == "3F000") {
    return absl::FailedPreconditionError(message);
  }
  return absl::InternalError(absl::StrCat(message, " (", state, ")"));
}

std::string Message(const std::exception& error) {
  return absl::StrCat("PostgreSQL: ", absl::StripSuffix(absl::string_view(error.what()), "\n"));
}

absl::StatusOr<SqlValue> FieldValue(const pqxx::field& field, pqxx::oid type) {
  if (field.is_null()) return SqlValue();
  const absl::string_view text(field.c_str(), field.size());
  if (type == kBytea) {
    if (!absl::StartsWith(text, "\\x")) return absl::InternalError("bytea is not written in hex");
    return Blob{absl::HexStringToBytes(text.substr(2))};
  }
  if (type != kInt8 && type != kInt4 && type != kInt2) return std::string(text);
  int64_t number = 0;
  if (!absl::SimpleAtoi(text, &number)) return absl::InternalError("a number that is none");
  return number;
}

absl::StatusOr<SqlResult> FromResult(const pqxx::result& found) {
  SqlResult result;
  result.changed = found.affected_rows();
  for (const pqxx::row& row : found) {
    SqlRow& values = result.rows.emplace_back();
    for (pqxx::row::size_type column = 0; column < row.size(); ++column) {
      ASSIGN_OR_RETURN(SqlValue value, FieldValue(row[column], row.column_type(column)));
      values.push_back(std::move(value));
    }
  }
  return result;
}

// Values in the server's text form; NULL is a null pointer.
class Parameters {
 public:
  explicit Parameters(absl::Span<const SqlValue> values) {
    texts_.reserve(values.size());
    for (const SqlValue& value : values) {
      if (const auto* number = std::get_if<int64_t>(&value)) {
        texts_.push_back(absl::StrCat(*number));
      } else if (const auto* text = std::get_if<std::string>(&value)) {
        texts_.push_back(*text);
      } else if (const auto* blob = std::get_if<Blob>(&value)) {
        texts_.push_back(absl::StrCat("\\x", absl::BytesToHexString(blob->bytes)));
      } else {
        pointers_.push_back(nullptr);
        continue;
      }
      pointers_.push_back(texts_.back().c_str());
    }
  }
  const std::vector<const char*>& pointers() const { return pointers_; }

 private:
  std::vector<std::string> texts_;  // never moved: the pointers are into it
  std::vector<const char*> pointers_;
};

}  // namespace

// The border: runs what may throw, and says what it threw as a Status.
template <typename Link, typename Body>
absl::Status Guarded(Link& link, const Body& body) {
  absl::Status status;
  try {
    status = body();
  } catch (const pqxx::in_doubt_error& error) {
    link.broken = true;
    status = Unavailable(Message(error), "STORE_UNAVAILABLE");
  } catch (const pqxx::broken_connection& error) {
    link.broken = true;
    status = Unavailable(Message(error), "STORE_UNAVAILABLE");
  } catch (const pqxx::transaction_rollback& error) {
    link.lost_race = true;
    status = Unavailable(Message(error), "STORE_UNAVAILABLE");
  } catch (const pqxx::sql_error& error) {
    status = FromSqlState(error.sqlstate(), Message(error));
  } catch (const std::exception& error) {
    status = absl::InternalError(Message(error));
  }
  if (!status.ok() && !link.connection.is_open()) link.broken = true;
  return status;
}

namespace {

template <typename Link>
class Session : public SqlSession {
 public:
  Session(Link& link, pqxx::transaction_base& transaction)
      : link_(link), transaction_(transaction) {}

  absl::StatusOr<SqlResult> Run(const std::string& sql,
                                absl::Span<const SqlValue> values) override {
    const Parameters parameters(values);
    SqlResult result;
    RETURN_IF_ERROR(Guarded(link_, [&]() -> absl::Status {
      const auto [found, added] = link_.names.try_emplace(sql);
      if (added) {
        found->second = absl::StrCat("s", link_.names.size());
        link_.connection.prepare(found->second, sql);
      }
      ASSIGN_OR_RETURN(
          result, FromResult(transaction_.exec_prepared(
                      found->second, pqxx::prepare::make_dynamic_params(parameters.pointers()))));
      return absl::OkStatus();
    }));
    return result;
  }

 private:
  Link& link_;
  pqxx::transaction_base& transaction_;
};

// The caller's settings and, where it has none, ours: libpq by itself waits for ever.
absl::StatusOr<std::string> Settings(const PostgresOptions& options) {
  std::map<std::string, std::string> settings = {
      {"connect_timeout", absl::StrCat(absl::ToInt64Seconds(options.connect_timeout))},
      {"tcp_user_timeout", absl::StrCat(absl::ToInt64Milliseconds(options.statement_timeout))},
      {"keepalives_idle", "10"},
      {"keepalives_interval", "5"},
      {"keepalives_count", "3"},
      {"application_name", "tandem-router"}};
  char* error = nullptr;
  PQconninfoOption* const given = PQconninfoParse(options.connection.c_str(), &error);
  if (given == nullptr) {
    const std::string why = error == nullptr ? "no memory" : error;
    PQfreemem(error);
    return absl::InvalidArgumentError(absl::StrCat("connection: ", absl::StripSuffix(why, "\n")));
  }
  for (const PQconninfoOption* option = given; option->keyword != nullptr; ++option) {
    if (option->val != nullptr) settings[option->keyword] = option->val;
  }
  PQconninfoFree(given);
  std::string out;
  for (const auto& [name, value] : settings) {
    absl::StrAppend(&out, name, "='", absl::StrReplaceAll(value, {{"\\", "\\\\"}, {"'", "\\'"}}),
                    "' ");
  }
  return out;
}

// What a session needs to be sure of, whatever the server's own settings are.
std::string SessionSettings(const PostgresOptions& options) {
  const int64_t timeout = absl::ToInt64Milliseconds(options.statement_timeout);
  return absl::StrCat(
      "SET client_encoding = 'UTF8'; SET bytea_output = 'hex';"
      " SET client_min_messages = 'warning'; SET statement_timeout = ",
      timeout, "; SET lock_timeout = ", timeout,
      "; SET idle_in_transaction_session_timeout = ", timeout,
      // A row is acknowledged when it is on disk, also where the server was told to be quick.
      "; SELECT set_config('synchronous_commit', 'on', false)"
      " WHERE current_setting('synchronous_commit') = 'off'");
}

}  // namespace

PostgresConnection::PostgresConnection(std::unique_ptr<Link> link) : link_(std::move(link)) {}

PostgresConnection::~PostgresConnection() = default;

bool PostgresConnection::broken() const { return link_->broken; }

absl::StatusOr<std::unique_ptr<PostgresConnection>> PostgresConnection::Open(
    const PostgresOptions& options) {
  ASSIGN_OR_RETURN(const std::string settings, Settings(options));
  std::unique_ptr<Link> link;
  try {
    link = std::make_unique<Link>(settings);
  } catch (const std::exception& error) {
    return Unavailable(Message(error), "STORE_UNAVAILABLE");
  }
  RETURN_IF_ERROR(Guarded(*link, [&] {
    pqxx::nontransaction(link->connection).exec(SessionSettings(options));
    return absl::OkStatus();
  }));
  return std::unique_ptr<PostgresConnection>(new PostgresConnection(std::move(link)));
}

PostgresConnection::Outcome PostgresConnection::Transact(
    bool reads, const std::function<absl::Status(SqlSession&)>& body) {
  Link& link = *link_;
  link.lost_race = false;
  const auto run = [&](pqxx::transaction_base& transaction) -> absl::Status {
    Session<Link> session(link, transaction);
    RETURN_IF_ERROR(body(session));
    transaction.commit();
    return absl::OkStatus();
  };
  absl::Status status = Guarded(link, [&] {
    if (reads) {
      pqxx::transaction<pqxx::repeatable_read, pqxx::read_only> transaction(link.connection);
      return run(transaction);
    }
    pqxx::transaction<pqxx::read_committed, pqxx::read_write> transaction(link.connection);
    return run(transaction);
  });
  const bool try_again = !status.ok() && (link.broken || link.lost_race);
  return {.status = std::move(status), .try_again = try_again};
}

}  // namespace tandem
