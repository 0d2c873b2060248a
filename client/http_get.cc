#include "client/http_get.h"

#include <sys/socket.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "client/socket.h"

namespace tandem {
namespace {

constexpr size_t kPageBytesMax = 16 << 20;

// Status line, headers, an empty line, body: whole, since the server was asked to close.
absl::StatusOr<HttpPage> Parse(const std::string& text) {
  constexpr absl::string_view kVersion = "HTTP/1.";
  constexpr size_t kStatusAt = kVersion.size() + 2, kStatusDigits = 3;
  HttpPage page;
  const size_t end = text.find("\r\n\r\n");
  if (end == std::string::npos || !absl::StartsWith(text, kVersion) ||
      !absl::SimpleAtoi(absl::string_view(text).substr(kStatusAt, kStatusDigits), &page.status)) {
    return absl::UnavailableError("it does not answer in HTTP");
  }
  page.body = text.substr(end + 4);
  return page;
}

absl::StatusOr<HttpPage> Get(const HostPort& where, absl::string_view path,
                             absl::Duration timeout) {
  const Socket socket(where, timeout);
  if (!socket.connected()) return absl::UnavailableError("nothing answers there");
  const std::string request = absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: ", where.ToString(),
                                           "\r\nConnection: close\r\n\r\n");
  if (send(socket.fd(), request.data(), request.size(), MSG_NOSIGNAL) < 0) {
    return absl::UnavailableError("it takes no request");
  }
  std::string text;
  char chunk[1 << 14];
  while (true) {
    const ssize_t got = recv(socket.fd(), chunk, sizeof chunk, 0);
    if (got < 0) return absl::UnavailableError("its answer broke off");
    if (got == 0) return Parse(text);
    text.append(chunk, static_cast<size_t>(got));
    if (text.size() > kPageBytesMax) {
      return absl::ResourceExhaustedError(
          absl::StrCat("its answer has more than ", kPageBytesMax, " bytes"));
    }
  }
}

}  // namespace

absl::StatusOr<HttpPage> HttpGet(const std::string& endpoint, absl::string_view path,
                                 absl::Duration timeout) {
  ASSIGN_OR_RETURN(const HostPort where, ParseHostPort(endpoint));
  absl::StatusOr<HttpPage> page = Get(where, path, timeout);
  if (!page.ok()) return Annotate(page.status(), absl::StrCat("http://", endpoint, path));
  return page;
}

}  // namespace tandem
