#pragma once
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kvstore/transport/socket.h"

namespace tandem {

// The folder in which the processes of one machine, or pod, find each other's KV sockets. A peer is
// known there by its socket's name alone: no peer can make this process open any other path.
//   errors  InvalidArgument the folder cannot be used, or a name is none of ours; both say why
class ShmFolder {
 public:
  // `path` empty: /tmp/tandem-kv-<user id>, which has to be this user's alone. Made if it is not
  // there; its parent has to be.
  static absl::StatusOr<ShmFolder> Open(absl::string_view path);

  // Listens under a new name; and connects. As ListenUnix and ConnectUnix.
  struct Listener {
    Socket socket;
    std::string name;
  };
  absl::StatusOr<Listener> Listen() const;
  absl::StatusOr<Socket> Connect(absl::string_view name) const;
  void Remove(absl::string_view name) const;

  // Removes what processes left that died. Those that live are not disturbed, but for a connection
  // that says nothing.
  void RemoveDead() const;

  const std::string& path() const { return path_; }

 private:
  explicit ShmFolder(std::string path);
  std::string PathOf(absl::string_view name) const;

  std::string path_;
};

}  // namespace tandem
