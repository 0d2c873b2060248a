#include "tests/router/store/postgres_server.h"

#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <pqxx/pqxx>
#include <sstream>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"

// libpqxx 6.4 forgets a result, 2 KiB, when its connection breaks before the result's encoding is
// asked for; LeakSanitizer would end every test that breaks connections.
extern "C" const char* __lsan_default_suppressions() { return "leak:libpqxx\n"; }  // NOLINT

namespace tandem {
namespace {

constexpr char kInstalled[] = "/usr/lib/postgresql";
constexpr int kOldestVersion = 15;  // that knows the locales that the tests ask for
constexpr absl::Duration kStartTimeout = absl::Seconds(60);

absl::StatusOr<std::string> FindBinaries() {
  int newest = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(kInstalled, error)) {
    int version = 0;
    if (absl::SimpleAtoi(entry.path().filename().string(), &version) && version > newest &&
        std::filesystem::exists(entry.path() / "bin/initdb")) {
      newest = version;
    }
  }
  if (newest >= kOldestVersion) return absl::StrCat(kInstalled, "/", newest, "/bin/");
  return absl::NotFoundError("no PostgreSQL server is installed (deploy/setup --tests does it)");
}

std::string ReadAll(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// What goes before a command so that it ends with this program, and is not root.
absl::StatusOr<std::vector<std::string>> Unprivileged(const std::string& folder) {
  std::vector<std::string> command = {"setpriv", "--pdeathsig", "INT"};
  if (geteuid() != 0) return command;
  const passwd* user = getpwnam("postgres");
  if (user == nullptr) user = getpwnam("nobody");
  if (user == nullptr || chown(folder.c_str(), user->pw_uid, user->pw_gid) != 0) {
    return absl::InternalError("there is no user to run PostgreSQL as");
  }
  for (const std::string& word :
       {absl::StrCat("--reuid=", user->pw_uid), absl::StrCat("--regid=", user->pw_gid),
        std::string("--clear-groups")}) {
    command.push_back(word);
  }
  return command;
}

pid_t Spawn(std::vector<std::string> command, const std::vector<std::string>& arguments,
            const std::string& folder) {
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<char*> words;
  for (std::string& word : command) words.push_back(word.data());
  words.push_back(nullptr);
  const std::string log = folder + "/log";
  const pid_t child = fork();
  if (child != 0) return child;
  const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
  if (out < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || chdir(folder.c_str()) != 0) _exit(126);
  execvp(words[0], words.data());
  _exit(127);
}

}  // namespace

absl::StatusOr<PostgresServer*> PostgresServer::Shared() {
  static const absl::StatusOr<std::unique_ptr<PostgresServer>> server = Start();
  if (!server.ok()) return server.status();
  return server->get();
}

absl::StatusOr<std::unique_ptr<PostgresServer>> PostgresServer::Start() {
  ASSIGN_OR_RETURN(const std::string binaries, FindBinaries());
  auto server = std::unique_ptr<PostgresServer>(new PostgresServer());
  const std::string& folder = server->folder_.path();
  ASSIGN_OR_RETURN(const std::vector<std::string> prefix, Unprivileged(folder));
  const std::string data = folder + "/data";
  const pid_t made =
      Spawn(prefix,
            {binaries + "initdb", "-D", data, "-U", "tandem", "-A", "trust", "-E", "UTF8",
             "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US", "--no-sync"},
            folder);
  int status = 0;
  if (made < 0 || waitpid(made, &status, 0) != made || status != 0) {
    return absl::InternalError(absl::StrCat("initdb: ", ReadAll(folder + "/log")));
  }
  // It need not outlive the machine, so it need not wait for the disk.
  server->process_ = Spawn(prefix,
                           {binaries + "postgres", "-D", data, "-k", folder, "-c",
                            "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB"},
                           folder);
  server->connection_ = absl::StrCat("host=", folder, " user=tandem dbname=postgres");
  RETURN_IF_ERROR(server->WaitUntilReady());
  return server;
}

absl::Status PostgresServer::WaitUntilReady() const {
  const absl::Time deadline = absl::Now() + kStartTimeout;
  while (absl::Now() < deadline) {
    try {
      const pqxx::connection connection(connection_);
      return absl::OkStatus();
    } catch (const pqxx::broken_connection&) {
      absl::SleepFor(absl::Milliseconds(20));
    }
  }
  return absl::InternalError(absl::StrCat("postgres: ", ReadAll(folder_.path() + "/log")));
}

PostgresServer::~PostgresServer() {
  if (process_ <= 0) return;
  kill(process_, SIGINT);  // its "fast" shutdown: connections are closed
  waitpid(process_, nullptr, 0);
}

std::string PostgresServer::NewSchema() {
  const std::string name = absl::StrCat("test", ++schemas_);
  pqxx::connection connection(connection_);
  pqxx::nontransaction(connection).exec0("CREATE SCHEMA " + name);
  return absl::StrCat(connection_, " options='-csearch_path=", name, "'");
}

}  // namespace tandem
