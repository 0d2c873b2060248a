#include "base/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "base/observability.h"
#include "tests/support/status_matchers.h"

namespace tandem {
namespace {

using ::testing::AnyOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A client's socket, connected to a server on 127.0.0.1. Reads give up after 10 s.
class Client {
 public:
  explicit Client(const HttpServer& server) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(server.address().port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
    const timeval limit = {.tv_sec = 10};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  ~Client() { close(fd_); }
  Client(const Client&) = delete;

  void Send(const std::string& text) const {
    EXPECT_TRUE(connected_);
    (void)!send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
  }
  // All that comes until the server closes, or until `end` was read.
  std::string Read(const std::string& end = "") const {
    std::string text;
    char chunk[4096];
    for (ssize_t got; (got = recv(fd_, chunk, sizeof chunk, 0)) > 0;) {
      text.append(chunk, static_cast<size_t>(got));
      if (!end.empty() && text.find(end) != std::string::npos) break;
    }
    return text;
  }

 private:
  const int fd_;
  bool connected_ = false;
};

std::string Get(const HttpServer& server, const std::string& path,
                const std::string& headers = "Host: localhost\r\n") {
  Client client(server);
  client.Send("GET " + path + " HTTP/1.1\r\n" + headers + "Connection: close\r\n\r\n");
  return client.Read();
}

absl::StatusOr<std::unique_ptr<HttpServer>> StartHello(HttpServer::Options options = {}) {
  if (options.listen.empty()) options.listen = "127.0.0.1:0";
  return HttpServer::Start(options, {{"/hello", [] { return HttpResponse{.body = "hello\n"}; }}});
}

TEST(HttpServer, ServesAPageAndNamesTheOthers) {
  ASSERT_OK_AND_ASSIGN(const auto server, StartHello());
  EXPECT_NE(server->address().port, 0);
  EXPECT_THAT(Get(*server, "/hello"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), EndsWith("\r\n\r\nhello\n")));
  EXPECT_THAT(Get(*server, "/hello?x=1"), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(Get(*server, "/nothing"),
              AllOf(StartsWith("HTTP/1.1 404 Not Found\r\n"), HasSubstr("  /hello\n")));
}

TEST(HttpServer, KeepsAConnectionForTheNextRequest) {
  ASSERT_OK_AND_ASSIGN(const auto server, StartHello());
  Client client(*server);
  for (int i = 0; i < 3; ++i) {
    client.Send("GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    EXPECT_THAT(client.Read("hello\n"), StartsWith("HTTP/1.1 200 OK\r\n"));
  }
}

TEST(HttpServer, HeadHasNoBodyAndOtherMethodsAreRefused) {
  ASSERT_OK_AND_ASSIGN(const auto server, StartHello());
  Client head(*server);
  head.Send("HEAD /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(head.Read(), AllOf(HasSubstr("Content-Length: 6\r\n"), EndsWith("\r\n\r\n")));
  Client post(*server);
  post.Send("POST /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(post.Read(), AllOf(StartsWith("HTTP/1.1 405 "), HasSubstr("Allow: GET, HEAD\r\n")));
}

TEST(HttpServer, HostileRequestsEndAndTheServerGoesOn) {
  ASSERT_OK_AND_ASSIGN(const auto server, StartHello());
  Client large(*server);
  large.Send("GET /hello HTTP/1.1\r\nX: " + std::string(20 << 10, 'x') + "\r\n\r\n");
  EXPECT_THAT(large.Read(), AnyOf(StartsWith("HTTP/1.1 431 "), ""));
  Client body(*server);
  body.Send("POST /hello HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n");
  EXPECT_THAT(body.Read(), AnyOf(StartsWith("HTTP/1.1 413 "), ""));
  Client junk(*server);
  junk.Send(std::string("\0\xff\r\n\r\n", 6));
  EXPECT_EQ(junk.Read(), "");
  EXPECT_THAT(Get(*server, "/hello"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST(HttpServer, ASilentClientIsCutOff) {
  HttpServer::Options options;
  options.timeout = absl::Milliseconds(20);
  ASSERT_OK_AND_ASSIGN(const auto server, StartHello(options));
  Client client(*server);
  client.Send("GET /hel");
  EXPECT_EQ(client.Read(), "");  // ended by the server, long before the client's own 10 s
}

TEST(HttpServer, OneConnectionTooManyIsClosedAtOnce) {
  HttpServer::Options options;
  options.max_connections = 1;
  ASSERT_OK_AND_ASSIGN(const auto server, StartHello(options));
  Client first(*server);
  first.Send("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(first.Read("hello\n"), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_EQ(Get(*server, "/hello"), "");
}

TEST(HttpServer, OnLoopbackAForeignNameIsRefused) {  // DNS rebinding
  ASSERT_OK_AND_ASSIGN(const auto server, StartHello());
  for (const char* host : {"localhost:9400", "127.0.0.1:9400", "127.0.0.1", "[::1]:1", "[::1]"}) {
    EXPECT_THAT(Get(*server, "/hello", absl::StrCat("Host: ", host, "\r\n")),
                StartsWith("HTTP/1.1 200 "))
        << host;
  }
  EXPECT_THAT(Get(*server, "/hello", "Host: evil.example:9400\r\n"), StartsWith("HTTP/1.1 403 "));
  EXPECT_THAT(Get(*server, "/hello", "Host: localhost\r\nOrigin: http://evil.example\r\n"),
              StartsWith("HTTP/1.1 403 "));
}

TEST(HttpServer, AddressesThatCannotBeUsedAreNamed) {
  ASSERT_OK_AND_ASSIGN(const auto server, StartHello());
  HttpServer::Options options;
  options.listen = server->address().ToString();
  EXPECT_THAT(StartHello(options),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("cannot listen on " + options.listen + ": Address already in")));
  options.listen = "nonsense";
  EXPECT_THAT(StartHello(options), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(HttpServer, EndsWhileConnectionsAreOpen) {
  ASSERT_OK_AND_ASSIGN(auto server, StartHello());
  Client client(*server);
  client.Send("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.Read("hello\n");
  server.reset();
  EXPECT_EQ(client.Read(), "");
}

TEST(Observability, ShowsMetricsHealthAndReadiness) {
  MetricRegistry registry;
  registry.NewGauge("tandem_test", "h", {}).With({}).Set(7);
  Readiness readiness;
  absl::Status alive;
  ASSERT_OK_AND_ASSIGN(const auto server, ServeObservability("127.0.0.1:0", &registry, &readiness,
                                                             [&alive] { return alive; }));
  EXPECT_THAT(Get(*server, "/metrics"), AllOf(HasSubstr("Content-Type: text/plain; version=0.0.4"),
                                              HasSubstr("tandem_test 7\n")));
  EXPECT_THAT(Get(*server, "/healthz"), AllOf(HasSubstr(" 200 "), EndsWith("ok\n")));
  EXPECT_THAT(Get(*server, "/readyz"),
              AllOf(HasSubstr(" 200 "), EndsWith("{\"ready\":true,\"reasons\":{}}\n")));
  readiness.Block("model", "loading 3 of 8 \"shards\"");
  const std::string page = Get(*server, "/readyz");
  EXPECT_THAT(page, StartsWith("HTTP/1.1 503 "));
  const auto json = nlohmann::json::parse(page.substr(page.find("\r\n\r\n")), nullptr, false);
  EXPECT_EQ(json["ready"], false);
  EXPECT_EQ(json["reasons"]["model"], "loading 3 of 8 \"shards\"");
  readiness.Clear("model");
  EXPECT_THAT(Get(*server, "/readyz"), HasSubstr(" 200 "));
  EXPECT_THAT(
      ServeObservability(server->address().ToString(), &registry, &readiness),
      StatusIs(absl::StatusCode::kFailedPrecondition, StartsWith("observability.listen: ")));
}

TEST(Readiness, TellsItsFollowerWhetherEveryPartIsReady) {
  Readiness readiness;
  std::vector<bool> told;
  EXPECT_TRUE(readiness.Block("model", "it is being loaded"));
  readiness.Follow([&told](bool ready) { told.push_back(ready); });
  EXPECT_TRUE(readiness.Block("engine", "it is stuck"));
  EXPECT_FALSE(readiness.Block("engine", "it is still stuck"));
  readiness.Clear("model");
  EXPECT_EQ(told.back(), false);
  readiness.Clear("engine");
  EXPECT_EQ(told.back(), true);
  EXPECT_TRUE(readiness.Block("engine", "it is stuck again"));
  EXPECT_EQ(told.back(), false);
  const size_t before = told.size();
  readiness.Follow(nullptr);
  readiness.Clear("engine");
  EXPECT_EQ(told.size(), before);
}

TEST(Readiness, TellsNothingThatItsFollowerKnows) {
  Readiness readiness;
  std::vector<bool> told;
  readiness.Follow([&told](bool ready) { told.push_back(ready); });
  readiness.Clear("engine");
  readiness.Block("engine", "it is stuck");
  readiness.Block("engine", "it is stuck for longer");
  readiness.Block("worker", "it is stopping");
  readiness.Clear("engine");
  readiness.Clear("worker");
  readiness.Clear("worker");
  EXPECT_EQ(told, (std::vector<bool>{true, false, true}));
}

TEST(Readiness, WhileItsFollowerIsCalledOthersDoNotWaitAndNothingIsLostOrReordered) {
  Readiness readiness;
  std::vector<bool> told;
  readiness.Follow([&](bool ready) {
    told.push_back(ready);
    if (told.size() != 2) return;
    std::thread other([&] {  // joined here: it would wait for ever for a lock that is held
      readiness.Block("worker", "it is stopping");
      readiness.Clear("engine");
      EXPECT_EQ(readiness.reasons().size(), 1u);
      readiness.Clear("worker");
    });
    other.join();
    EXPECT_EQ(told.size(), 2u) << "one call at a time";
  });
  readiness.Block("engine", "it is stuck");
  EXPECT_EQ(told, (std::vector<bool>{true, false, true}));
}

TEST(Observability, AProcessThatIsStuckIsNotHealthy) {
  MetricRegistry registry;
  Readiness readiness;
  ASSERT_OK_AND_ASSIGN(const auto server,
                       ServeObservability("127.0.0.1:0", &registry, &readiness,
                                          [] { return absl::InternalError("no step for 30 s"); }));
  EXPECT_THAT(Get(*server, "/healthz"),
              AllOf(StartsWith("HTTP/1.1 503 "), EndsWith("no step for 30 s\n")));
}

}  // namespace
}  // namespace tandem
