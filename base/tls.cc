#include "base/tls.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstring>
#include <ctime>
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

// An error of one field of the section.
absl::Status Wrong(const TlsSettings& settings, absl::string_view field, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat(settings.section, settings.section.empty() ? "" : ".", field, ": ", why));
}

absl::StatusOr<std::string> ReadPem(const TlsSettings& settings, absl::string_view field,
                                    const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kLargestPem + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.eof()) {
    const char* why = file.gcount() > static_cast<std::streamsize>(kLargestPem)
                          ? "it is larger than 1 MiB"
                          : std::strerror(errno);
    return Wrong(settings, field, absl::StrCat("cannot read ", path, ": ", why));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

absl::StatusOr<Certificate> ParseCertificate(const TlsSettings& settings, absl::string_view field,
                                             const std::string& path, const std::string& pem) {
  Certificate certificate(PEM_read_bio_X509(Open(pem).get(), nullptr, NoPassphrase, nullptr));
  if (certificate != nullptr) return certificate;
  return Wrong(settings, field, absl::StrCat(path, " holds no PEM certificate"));
}

std::string Spelt(const ASN1_TIME* time) {
  const Bio out(BIO_new(BIO_s_mem()));
  ASN1_TIME_print(out.get(), time);
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);  // NOLINT(google-runtime-int): OpenSSL's
  return std::string(text, static_cast<size_t>(size));
}

absl::Status CheckTime(const TlsSettings& settings, const X509* certificate) {
  const ASN1_TIME* from = X509_get0_notBefore(certificate);
  const ASN1_TIME* until = X509_get0_notAfter(certificate);
  if (X509_cmp_current_time(until) < 0) {
    return Wrong(settings, "cert_file",
                 absl::StrCat(settings.cert_file, " expired at ", Spelt(until)));
  }
  if (X509_cmp_current_time(from) > 0) {
    return Wrong(settings, "cert_file",
                 absl::StrCat(settings.cert_file, " is not valid before ", Spelt(from)));
  }
  return absl::OkStatus();
}

absl::StatusOr<absl::Time> TimeOf(const TlsSettings& settings, const ASN1_TIME* time) {
  tm utc{};
  if (ASN1_TIME_to_tm(time, &utc) == 1) return absl::FromUnixSeconds(timegm(&utc));
  return Wrong(settings, "cert_file", absl::StrCat(settings.cert_file, " has times of no form"));
}

absl::StatusOr<TlsFiles> ReadOwn(const TlsSettings& settings) {
  TlsFiles files;
  ASSIGN_OR_RETURN(files.cert, ReadPem(settings, "cert_file", settings.cert_file));
  ASSIGN_OR_RETURN(files.key, ReadPem(settings, "key_file", settings.key_file));
  ASSIGN_OR_RETURN(const Certificate certificate,
                   ParseCertificate(settings, "cert_file", settings.cert_file, files.cert));
  const Key key(PEM_read_bio_PrivateKey(Open(files.key).get(), nullptr, NoPassphrase, nullptr));
  if (key == nullptr) {
    return Wrong(settings, "key_file",
                 absl::StrCat(settings.key_file, " holds no PEM private key without a passphrase"));
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return Wrong(settings, "key_file",
                 absl::StrCat(settings.key_file, " is not the key of the certificate in ",
                              settings.cert_file));
  }
  RETURN_IF_ERROR(CheckTime(settings, certificate.get()));
  return files;
}

}  // namespace

absl::StatusOr<CertificateTimes> ReadCertificateTimes(const TlsSettings& settings) {
  ASSIGN_OR_RETURN(const std::string pem, ReadPem(settings, "cert_file", settings.cert_file));
  ASSIGN_OR_RETURN(const Certificate certificate,
                   ParseCertificate(settings, "cert_file", settings.cert_file, pem));
  CertificateTimes times;
  ASSIGN_OR_RETURN(times.from, TimeOf(settings, X509_get0_notBefore(certificate.get())));
  ASSIGN_OR_RETURN(times.until, TimeOf(settings, X509_get0_notAfter(certificate.get())));
  return times;
}

absl::StatusOr<TlsFiles> ReadTls(const TlsSettings& settings) {
  TlsFiles files;
  if (settings.cert_file.empty() != settings.key_file.empty()) {
    return Wrong(settings, settings.cert_file.empty() ? "cert_file" : "key_file",
                 "has to be set too: a certificate and its key are used together");
  }
  if (!settings.cert_file.empty()) {
    ASSIGN_OR_RETURN(files, ReadOwn(settings));
  }
  if (!settings.ca_file.empty()) {
    ASSIGN_OR_RETURN(files.ca, ReadPem(settings, settings.ca_field, settings.ca_file));
    RETURN_IF_ERROR(ParseCertificate(settings, settings.ca_field, settings.ca_file, files.ca));
  }
  return files;
}

}  // namespace tandem
