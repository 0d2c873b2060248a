#include "router/auth/fetch.h"

#include <curl/curl.h>

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/address.h"
#include "base/status.h"

namespace tandem {
namespace {

struct FreeCurl {
  void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
  void operator()(char* text) const { curl_free(text); }
};

// Empty where there is none.
std::string PartOf(CURLU* url, CURLUPart part) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, 0) != CURLUE_OK) return "";
  const std::unique_ptr<char, FreeCurl> owned(text);
  return text;
}

struct Body {
  std::string text;
  size_t bytes_max = 0;
};

size_t Take(char* data, size_t size, size_t count, void* to) {
  auto* body = static_cast<Body*>(to);
  if (body->text.size() + size * count > body->bytes_max) return 0;  // ends the transfer
  body->text.append(data, size * count);
  return size * count;
}

}  // namespace

absl::Status CheckFetchUrl(const std::string& url) {
  const std::unique_ptr<CURLU, FreeCurl> parsed(curl_url());
  if (curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) {
    return absl::InvalidArgumentError("no URL: want https://host/path");
  }
  const std::string scheme = PartOf(parsed.get(), CURLUPART_SCHEME);
  const std::string host = PartOf(parsed.get(), CURLUPART_HOST);
  const absl::string_view bare = absl::StripSuffix(absl::StripPrefix(host, "["), "]");
  if (scheme == "https" || (scheme == "http" && IsLoopback(bare))) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(scheme, "://", host,
                   " is not fetched: want https, or http on loopback, since "
                   "whoever is on the way could answer instead"));
}

absl::StatusOr<std::string> FetchUrl(const std::string& url, const FetchOptions& options) {
  RETURN_IF_ERROR(CheckFetchUrl(url));
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  const std::unique_ptr<CURL, FreeCurl> curl(initialised == CURLE_OK ? curl_easy_init() : nullptr);
  if (curl == nullptr) return absl::UnavailableError("no memory for an HTTP client");
  Body body{.text = {}, .bytes_max = options.bytes_max};
  char error[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT_MS,
                   static_cast<long>(absl::ToInt64Milliseconds(options.timeout)));  // NOLINT
  curl_easy_setopt(curl.get(), CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, &Take);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &body);
  if (!options.ca_file.empty()) {
    curl_easy_setopt(curl.get(), CURLOPT_CAINFO, options.ca_file.c_str());
  }
  const CURLcode code = curl_easy_perform(curl.get());
  if (code == CURLE_OK) {
    long status = 0;  // NOLINT: libcurl's type
    curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
    if (status == 200) return std::move(body.text);
    return absl::UnavailableError(absl::StrCat(url, ": answered with status ", status));
  }
  if (code == CURLE_WRITE_ERROR) {
    return absl::UnavailableError(
        absl::StrCat(url, ": the answer has more than ", options.bytes_max, " bytes"));
  }
  return absl::UnavailableError(
      absl::StrCat(url, ": ", error[0] != '\0' ? error : curl_easy_strerror(code)));
}

}  // namespace tandem
