#include "base/http_server.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/log.h"
#include "base/status.h"

namespace tandem {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;

struct Site {
  HttpServer::Options options;
  std::map<std::string, HttpServer::Page> pages;
  bool loopback;
  size_t connections = 0;  // open now
};

absl::string_view View(beast::string_view text) { return {text.data(), text.size()}; }

// Whether a Host or Origin header names this machine. A web page that had its own name resolved to
// 127.0.0.1 (DNS rebinding) still sends that name.
bool NamesLoopback(absl::string_view text) {
  if (!absl::ConsumePrefix(&text, "http://")) absl::ConsumePrefix(&text, "https://");
  const absl::StatusOr<HostPort> with_port = ParseHostPort(text);
  if (with_port.ok()) return IsLoopback(with_port->host);
  absl::string_view host = text;
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  return IsLoopback(host);
}

HttpResponse Answer(const Site& site, const http::request<http::empty_body>& request) {
  if (request.method() != http::verb::get && request.method() != http::verb::head) {
    return {.status = 405, .body = "only GET and HEAD are answered here\n"};
  }
  const auto foreign = [&request](http::field field) {
    const auto header = request.find(field);
    return header != request.end() && !NamesLoopback(View(header->value()));
  };
  if (site.loopback && (foreign(http::field::host) || foreign(http::field::origin))) {
    return {.status = 403, .body = "only requests for this machine's own name are answered here\n"};
  }
  const absl::string_view target = View(request.target());
  const auto page = site.pages.find(std::string(target.substr(0, target.find('?'))));
  if (page != site.pages.end()) return page->second();
  HttpResponse response{.status = 404, .body = "there is no such page here, but\n"};
  for (const auto& [path, unused] : site.pages) absl::StrAppend(&response.body, "  ", path, "\n");
  return response;
}

// One connection: reads a request, writes its answer, and again.
//   life  kept by the operation that is pending; ends when that fails, times out or is cancelled
class Connection final : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, Site* site) : stream_(std::move(socket)), site_(site) {
    ++site_->connections;
  }
  ~Connection() { --site_->connections; }

  void Read() {
    parser_.emplace();
    parser_->header_limit(static_cast<std::uint32_t>(site_->options.max_header_bytes));
    parser_->body_limit(0);
    stream_.expires_after(absl::ToChronoNanoseconds(site_->options.timeout));
    http::async_read(
        stream_, buffer_, *parser_,
        [self = shared_from_this()](beast::error_code error, size_t) { self->OnRead(error); });
  }

 private:
  void OnRead(beast::error_code error) {
    if (error == http::error::header_limit) {
      return Write({.status = 431, .body = "the header is too large\n"}, false);
    }
    if (error == http::error::body_limit) {
      return Write({.status = 413, .body = "a request may have no body here\n"}, false);
    }
    if (error) return;  // closed, timed out, or not HTTP: nobody to answer
    const http::request<http::empty_body>& request = parser_->get();
    Write(Answer(*site_, request), request.keep_alive());
  }

  void Write(HttpResponse answer, bool keep_alive) {
    const bool head = parser_->get().method() == http::verb::head;
    response_ = {};
    response_.result(static_cast<unsigned>(answer.status));
    response_.set(http::field::content_type, answer.content_type);
    response_.set(http::field::cache_control, "no-store");
    response_.set("X-Content-Type-Options", "nosniff");
    if (answer.status == 405) response_.set(http::field::allow, "GET, HEAD");
    response_.content_length(answer.body.size());
    if (!head) response_.body() = std::move(answer.body);
    response_.keep_alive(keep_alive);
    stream_.expires_after(absl::ToChronoNanoseconds(site_->options.timeout));
    http::async_write(stream_, response_,
                      [self = shared_from_this()](beast::error_code error, size_t) {
                        if (!error && self->response_.keep_alive()) return self->Read();
                        self->stream_.socket().shutdown(tcp::socket::shutdown_send, error);
                      });
  }

  beast::tcp_stream stream_;
  Site* const site_;
  beast::flat_buffer buffer_{64 << 10};
  std::optional<http::request_parser<http::empty_body>> parser_;
  http::response<http::string_body> response_;
};

}  // namespace

struct HttpServer::Impl {
  Site site;
  asio::io_context context{1};
  tcp::acceptor acceptor{context};
  asio::steady_timer pause{context};
  std::jthread thread;  // last: ends before what it uses

  ~Impl() { context.stop(); }

  absl::Status Listen(const HostPort& address) {
    beast::error_code error;
    tcp::resolver resolver(context);
    const auto found =
        resolver.resolve(address.host, absl::StrCat(address.port),
                         tcp::resolver::passive | tcp::resolver::numeric_service, error);
    if (!error) acceptor.open(found.begin()->endpoint().protocol(), error);
    if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor.bind(found.begin()->endpoint(), error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (!error) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat("cannot listen on ", address.ToString(), ": ", error.message()));
  }

  void Accept() {
    acceptor.async_accept([this](beast::error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) {  // out of files or memory: try again when some may have come back
        LogWarning("accepting an HTTP connection failed", {{"error", error.message()}});
        pause.expires_after(std::chrono::milliseconds(100));
        pause.async_wait([this](beast::error_code stopped) {
          if (!stopped) Accept();
        });
        return;
      }
      if (site.connections < site.options.max_connections) {
        std::make_shared<Connection>(std::move(socket), &site)->Read();
      }
      Accept();
    });
  }
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const Options& options,
                                                              std::map<std::string, Page> pages) {
  ASSIGN_OR_RETURN(HostPort address, ParseHostPort(options.listen));
  auto impl = std::make_unique<Impl>();
  impl->site = {options, std::move(pages), IsLoopback(address.host)};
  RETURN_IF_ERROR(impl->Listen(address));
  beast::error_code error;
  address.port = impl->acceptor.local_endpoint(error).port();
  impl->Accept();
  impl->thread = std::jthread([context = &impl->context] { context->run(); });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(address), std::move(impl)));
}

HttpServer::HttpServer(HostPort address, std::unique_ptr<Impl> impl)
    : address_(std::move(address)), impl_(std::move(impl)) {}

HttpServer::~HttpServer() = default;

}  // namespace tandem
