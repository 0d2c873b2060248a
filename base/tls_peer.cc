#include "base/tls_peer.h"

#include <arpa/inet.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tandem {
namespace {

constexpr size_t kNamesShown = 8;  // of a certificate, in an error

using Names = std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)>;

std::string TextOf(const ASN1_STRING* text) {
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                     static_cast<size_t>(ASN1_STRING_length(text)));
}

std::string AddressOf(const ASN1_STRING* address) {
  char text[INET6_ADDRSTRLEN] = "?";
  const int family = ASN1_STRING_length(address) == 4 ? AF_INET : AF_INET6;
  if (family == AF_INET || ASN1_STRING_length(address) == 16) {
    inet_ntop(family, ASN1_STRING_get0_data(address), text, sizeof text);
  }
  return text;
}

// Every name of the kinds that can be asked for.
std::vector<std::string> NamesOf(X509* certificate, bool uris_only) {
  std::vector<std::string> found;
  const Names names(static_cast<GENERAL_NAMES*>(
                        X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)),
                    GENERAL_NAMES_free);
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_URI) found.push_back(TextOf(name->d.uniformResourceIdentifier));
    if (name->type == GEN_DNS && !uris_only) found.push_back(TextOf(name->d.dNSName));
    if (name->type == GEN_IPADD && !uris_only) found.push_back(AddressOf(name->d.iPAddress));
  }
  return found;
}

bool Has(X509* certificate, const std::string& name) {
  constexpr unsigned kFlags = X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;
  if (name.empty()) return false;
  if (name.find("://") != name.npos) {
    const std::vector<std::string> uris = NamesOf(certificate, /*uris_only=*/true);
    return std::find(uris.begin(), uris.end(), name) != uris.end();
  }
  return X509_check_ip_asc(certificate, name.c_str(), kFlags) == 1 ||
         X509_check_host(certificate, name.data(), name.size(), kFlags, nullptr) == 1;
}

}  // namespace

absl::Status CheckPeerName(X509* certificate, absl::Span<const std::string> names) {
  const auto has = [certificate](const std::string& name) { return Has(certificate, name); };
  if (names.empty() || std::any_of(names.begin(), names.end(), has)) return absl::OkStatus();
  std::vector<std::string> found = NamesOf(certificate, /*uris_only=*/false);
  if (found.size() > kNamesShown) found.resize(kNamesShown);
  return absl::PermissionDeniedError(absl::StrCat("the peer's certificate is for [",
                                                  absl::StrJoin(found, ", "), "], not for ",
                                                  absl::StrJoin(names, " or ")));
}

}  // namespace tandem
