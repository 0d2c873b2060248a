#include "router/auth/fetch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "base/http_server.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

class Fetch : public ::testing::Test {
 protected:
  std::string Url(const std::string& page) const {
    return absl::StrCat("http://", server_->address().ToString(), page);
  }

  const std::unique_ptr<HttpServer> server_ = *HttpServer::Start(
      {.listen = "127.0.0.1:0"},
      {{"/keys", [] { return HttpResponse{.body = "{}"}; }},
       {"/long", [] { return HttpResponse{.body = std::string(1001, 'x')}; }},
       {"/away", [] { return HttpResponse{.status = 302, .body = "elsewhere"}; }}});
};

TEST_F(Fetch, BringsWhatIsThere) { EXPECT_EQ(*FetchUrl(Url("/keys"), {}), "{}"); }

TEST_F(Fetch, SaysWhyThereIsNothing) {
  const auto why = [](const std::string& url) {
    const auto result = FetchUrl(url, {.bytes_max = 1000});
    EXPECT_TRUE(absl::IsUnavailable(result.status())) << result.status();
    return std::string(result.status().message());
  };
  EXPECT_THAT(why(Url("/nothing")), HasSubstr("404"));
  EXPECT_THAT(why(Url("/long")), HasSubstr("more than 1000 bytes"));
  EXPECT_THAT(why(Url("/away")), HasSubstr("status 302"));
  EXPECT_THAT(why("http://127.0.0.1:1/"), HasSubstr("http://127.0.0.1:1/: "));
}

TEST_F(Fetch, AsksNobodyWhoCouldBeReplaced) {
  for (const char* url : {"http://login.example.com/keys", "file:///etc/passwd", "ftp://127.0.0.1/",
                          "keys", "", "http://127.0.0.1.example.com/"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckFetchUrl(url))) << url;
  }
  EXPECT_TRUE(CheckFetchUrl("https://login.example.com/keys").ok());
  EXPECT_TRUE(CheckFetchUrl("http://[::1]:8080/keys").ok());
}

}  // namespace
}  // namespace tandem
