#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/address.h"

namespace tandem {

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// A small HTTP/1.1 server of a few read-only pages: GET and HEAD, no request bodies.
//   limits   connections, bytes of a header and seconds of a request, as in Options. Above them a
//            client is refused or cut off, and the others don't notice
//   errors   InvalidArgument: `listen` is no address; FailedPrecondition: it can't be listened on
//   life     serves from Start() to the destructor, which ends open connections
//   threads  pages are made on the server's one thread, so they must be quick
class HttpServer {
 public:
  using Page = std::function<HttpResponse()>;
  struct Options {
    std::string listen;                          // "host:port"; port 0 lets the system choose
    size_t max_connections = 64;                 // one more is closed at once
    size_t max_header_bytes = 8 << 10;           // of one request
    absl::Duration timeout = absl::Seconds(10);  // to read or write one message, or to sit idle
  };
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const Options& options,
                                                           std::map<std::string, Page> pages);
  ~HttpServer();

  const HostPort& address() const { return address_; }  // with the port that was chosen

 private:
  struct Impl;  // keeps Boost out of this header
  HttpServer(HostPort address, std::unique_ptr<Impl> impl);
  const HostPort address_;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
