#pragma once
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "kvstore/transport/socket.h"
#include "kvstore/transport/transport.h"
#include "kvstore/transport/wire.h"

namespace tandem {

// The receiving ends of all links of one transport: admits links, lets peers in that name one with
// its token, and gives each connection a thread.
//   life    the destructor ends every connection and waits for their threads
//   errors  Unavailable no thread can be had, or all links are used; a connection for which there
//           is no thread, or that is one too many, is closed
//   threads any; Retire and the destructor not from within a sink
class LandingServer {
 public:
  struct Options {
    uint32_t max_links = 64;        // > 0; connections beyond it, and a few strangers, are closed
    uint64_t max_window_bytes = 0;  // of one connection
    uint32_t max_connections = 1;   // of one link
  };
  struct Link {
    Landing landing;
    FrameSink* sink = nullptr;
  };
  // The link that a hello names, unless the hello is wrong, or the link is ending or has all its
  // connections already: PermissionDenied.
  using Claim = std::function<absl::StatusOr<Link>(const wire::Hello&)>;
  // One connection from its first byte to its last; says why it ended. Calls `claim` at most once,
  // and the link's sink only between that and its return. ShutDown of the socket ends it.
  using Converse = std::function<absl::Status(const Socket&, const Claim& claim)>;

  static absl::StatusOr<std::unique_ptr<LandingServer>> Start(const Options& options,
                                                              Socket listener, Converse converse);
  ~LandingServer();

  // As Transport has them.
  absl::Status Admit(const Landing& landing, FrameSink* sink) ABSL_LOCKS_EXCLUDED(mu_);
  void Retire(const LinkName& name) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Connection {
    Socket socket;
    std::thread thread;
    bool finished = false;  // the thread touches nothing of ours any more but its own end
  };
  struct Entry {
    Link link;
    std::vector<Connection*> connections;  // whose threads may call the sink
    uint32_t claimed = 0;                  // connections there have been
    bool ending = false;                   // one has ended, and takes the others along
    bool retired = false;
    absl::Status why;  // the first one ended
  };

  LandingServer(const Options& options, Socket listener, Socket wake, Converse converse);

  void AcceptLoop() ABSL_LOCKS_EXCLUDED(mu_);
  // Gives the connection a thread, or closes it: with an error, if there is no thread to be had.
  absl::Status Accept(Socket socket) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Frees the connections that ended; returns how many are left.
  size_t Reap() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Serve(Connection* connection) ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<Link> ClaimFor(const wire::Hello& hello, Connection* connection)
      ABSL_LOCKS_EXCLUDED(mu_);
  // The first connection of a link that ends shuts the others down; the last one tells the sink,
  // unless Retire was what ended them.
  void Leave(const LinkName& name, Connection* connection, const absl::Status& why)
      ABSL_LOCKS_EXCLUDED(mu_);

  const Options options_;
  const Socket listener_, wake_;
  const Converse converse_;

  Mutex mu_;
  CondVar ended_;  // a connection finished, or let go of its link
  std::list<Connection> connections_ ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, Entry> links_ ABSL_GUARDED_BY(mu_);  // by link id
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  std::thread accepter_;
};

}  // namespace tandem
