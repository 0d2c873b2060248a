#include "base/tls.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace tandem {
namespace {

constexpr size_t kLargestPem = 1 << 20;  // bytes

template <typename T, void (*kFree)(T*)>
struct Freed {
  void operator()(T* object) const { kFree(object); }
};
using Bio = std::unique_ptr<BIO, Freed<BIO, BIO_vfree>>;
using Certificate = std::unique_ptr<X509, Freed<X509, X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY, EVP_PKEY_free>>;

Bio Open(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// A key that needs a passphrase is refused; OpenSSL would ask for it on the terminal.
int NoPassphrase(char*, int, int, void*) { return -1; }

absl::Status Wrong(absl::string_view option, absl::string_view name, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat(option, option.empty() ? "" : ".", name, ": ", why));
}

absl::StatusOr<std::string> ReadPem(const std::string& path, absl::string_view option,
                                    absl::string_view name) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kLargestPem + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.eof()) {
    const char* why = file.gcount() > static_cast<std::streamsize>(kLargestPem)
                          ? "it is larger than 1 MiB"
                          : std::strerror(errno);
    return Wrong(option, name, absl::StrCat("cannot read ", path, ": ", why));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

absl::StatusOr<Certificate> ReadCertificate(const std::string& path, const std::string& pem,
                                            absl::string_view option, absl::string_view name) {
  Certificate certificate(PEM_read_bio_X509(Open(pem).get(), nullptr, NoPassphrase, nullptr));
  if (certificate == nullptr) {
    return Wrong(option, name, absl::StrCat(path, " holds no PEM certificate"));
  }
  return certificate;
}

struct Paths {
  std::string cert, key, ca;
  absl::string_view ca_name;  // of the option
};

absl::StatusOr<TlsFiles> Read(const Paths& paths, absl::string_view option) {
  TlsFiles files;
  if (paths.cert.empty() != paths.key.empty()) {
    return Wrong(option, paths.cert.empty() ? "cert_file" : "key_file",
                 "has to be set too: a certificate and its key are used together");
  }
  if (!paths.cert.empty()) {
    ASSIGN_OR_RETURN(files.cert, ReadPem(paths.cert, option, "cert_file"));
    ASSIGN_OR_RETURN(files.key, ReadPem(paths.key, option, "key_file"));
    ASSIGN_OR_RETURN(const Certificate certificate,
                     ReadCertificate(paths.cert, files.cert, option, "cert_file"));
    const Key key(PEM_read_bio_PrivateKey(Open(files.key).get(), nullptr, NoPassphrase, nullptr));
    if (key == nullptr) {
      return Wrong(option, "key_file",
                   absl::StrCat(paths.key, " holds no PEM private key without a passphrase"));
    }
    if (X509_check_private_key(certificate.get(), key.get()) != 1) {
      return Wrong(option, "key_file",
                   absl::StrCat(paths.key, " is not the key of the certificate in ", paths.cert));
    }
  }
  if (!paths.ca.empty()) {
    ASSIGN_OR_RETURN(files.ca, ReadPem(paths.ca, option, paths.ca_name));
    RETURN_IF_ERROR(ReadCertificate(paths.ca, files.ca, option, paths.ca_name));
  }
  return files;
}

}  // namespace

absl::StatusOr<TlsFiles> ReadTls(const config::v1::TlsConfig& tls, absl::string_view option) {
  if (!tls.client_ca_file().empty() && tls.cert_file().empty()) {
    return Wrong(option, "cert_file", "has to be set too: client_ca_file asks for TLS");
  }
  return Read({tls.cert_file(), tls.key_file(), tls.client_ca_file(), "client_ca_file"}, option);
}

absl::StatusOr<TlsFiles> ReadTls(const config::v1::ClientTlsConfig& tls, absl::string_view option) {
  if (!tls.cert_file().empty() && tls.ca_file().empty()) {
    return Wrong(option, "ca_file", "has to be set too: it is what turns TLS on");
  }
  return Read({tls.cert_file(), tls.key_file(), tls.ca_file(), "ca_file"}, option);
}

}  // namespace tandem
