#include "kvstore/transport/shm_folder.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/status.h"
#include "kvstore/transport/unix_socket.h"

namespace tandem {
namespace {

constexpr absl::string_view kPrefix = "kv-", kSuffix = ".sock", kUnfinished = ".sock.new";
constexpr size_t kDigits = 16;
constexpr size_t kMostEntries = 4096;                          // that are looked at
constexpr absl::Duration kUnfinishedAfter = absl::Minutes(1);  // bind to listen is far shorter

bool IsName(absl::string_view name, absl::string_view suffix) {
  if (!absl::ConsumePrefix(&name, kPrefix) || !absl::ConsumeSuffix(&name, suffix)) return false;
  if (name.size() != kDigits) return false;
  for (const char c : name) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return false;
  }
  return true;
}

absl::Status CheckPrivate(const std::string& path, const struct stat& found) {
  if (found.st_uid == geteuid() && (found.st_mode & 077) == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, " has to belong to user ", geteuid(),
                   " and be open to nobody else (chmod 700); or choose another folder"));
}

std::vector<std::string> EntriesOf(const std::string& path) {
  std::vector<std::string> names;
  struct Close {
    void operator()(DIR* dir) const { (void)closedir(dir); }
  };
  const std::unique_ptr<DIR, Close> dir(opendir(path.c_str()));
  if (dir == nullptr) return names;
  while (const dirent* entry = readdir(dir.get())) {  // NOLINT(concurrency-mt-unsafe): own DIR
    if (names.size() == kMostEntries) break;
    names.emplace_back(entry->d_name);
  }
  return names;
}

bool IsOld(const std::string& path) {
  struct stat found{};
  return lstat(path.c_str(), &found) == 0 &&
         RealClock()->Now() - absl::FromTimeT(found.st_mtime) > kUnfinishedAfter;
}

}  // namespace

ShmFolder::ShmFolder(std::string path) : path_(std::move(path)) {}

absl::StatusOr<ShmFolder> ShmFolder::Open(absl::string_view path) {
  const bool own = path.empty();
  std::string folder = own ? absl::StrCat("/tmp/tandem-kv-", geteuid()) : std::string(path);
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::InvalidArgumentError(absl::StrCat("make ", folder, ": ", std::strerror(errno)));
  }
  struct stat found{};
  // A link in /tmp may be somebody else's; one that was configured is meant.
  if ((own ? lstat(folder.c_str(), &found) : stat(folder.c_str(), &found)) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(folder, ": ", std::strerror(errno)));
  }
  if (!S_ISDIR(found.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(folder, " is not a folder"));
  }
  if (own) {
    RETURN_IF_ERROR(CheckPrivate(folder, found));
  }
  return ShmFolder(std::move(folder));
}

absl::StatusOr<ShmFolder::Listener> ShmFolder::Listen() const {
  Listener listener;
  listener.name = absl::StrCat(kPrefix, absl::Hex(RandomUint64(), absl::kZeroPad16), kSuffix);
  ASSIGN_OR_RETURN(listener.socket, ListenUnix(PathOf(listener.name)));
  return listener;
}

absl::StatusOr<Socket> ShmFolder::Connect(absl::string_view name) const {
  if (!IsName(name, kSuffix)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", name.substr(0, 64), "\" is no KV socket"));
  }
  return ConnectUnix(PathOf(name));
}

void ShmFolder::Remove(absl::string_view name) const { (void)unlink(PathOf(name).c_str()); }

void ShmFolder::RemoveDead() const {
  for (const std::string& name : EntriesOf(path_)) {
    const bool unfinished = IsName(name, kUnfinished);
    if (!unfinished && !IsName(name, kSuffix)) continue;
    if (unfinished ? IsOld(PathOf(name)) : IsDeadUnix(PathOf(name))) Remove(name);
  }
}

std::string ShmFolder::PathOf(absl::string_view name) const {
  return absl::StrCat(path_, "/", name);
}

}  // namespace tandem
