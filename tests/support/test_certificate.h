#pragma once
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

namespace tandem {

// A certificate with its key, both PEM, made afresh.
struct TestCertificate {
  std::string cert, key;
};

struct TestCertificateOptions {
  // Subject alternative names.
  std::string names = "DNS:localhost,IP:127.0.0.1";
  // The authority that issues it; null: it is its own, and may issue others.
  const TestCertificate* issuer = nullptr;
  int valid_from = -60, valid_until = 3600;  // seconds from now
};

inline std::string TakePem(BIO* bio) {
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio, &text);  // NOLINT(google-runtime-int): OpenSSL's type
  std::string pem(text, static_cast<size_t>(size));
  BIO_free(bio);
  return pem;
}

inline void NameTestCertificate(X509* x509, const char* common_name) {
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(common_name), -1, -1, 0);
}

inline void ExtendTestCertificate(X509* x509, int nid, const std::string& value) {
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str());
  X509_add_ext(x509, extension, -1);
  X509_EXTENSION_free(extension);
}

// Signs with the issuer's key, or with `own` where there is no issuer.
inline void SignTestCertificate(X509* x509, const TestCertificate* issuer, EVP_PKEY* own) {
  if (issuer == nullptr) {
    X509_set_issuer_name(x509, X509_get_subject_name(x509));
    X509_sign(x509, own, EVP_sha256());
    return;
  }
  BIO* cert_bio = BIO_new_mem_buf(issuer->cert.data(), static_cast<int>(issuer->cert.size()));
  BIO* key_bio = BIO_new_mem_buf(issuer->key.data(), static_cast<int>(issuer->key.size()));
  X509* by = PEM_read_bio_X509(cert_bio, nullptr, nullptr, nullptr);
  EVP_PKEY* key = PEM_read_bio_PrivateKey(key_bio, nullptr, nullptr, nullptr);
  X509_set_issuer_name(x509, X509_get_subject_name(by));
  X509_sign(x509, key, EVP_sha256());
  EVP_PKEY_free(key);
  X509_free(by);
  BIO_free(key_bio);
  BIO_free(cert_bio);
}

inline TestCertificate MakeTestCertificate(const TestCertificateOptions& options = {}) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  const std::unique_ptr<X509, decltype(&X509_free)> x509(X509_new(), X509_free);
  const bool authority = options.issuer == nullptr;
  X509_set_version(x509.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x509.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(x509.get()), options.valid_from);
  X509_gmtime_adj(X509_getm_notAfter(x509.get()), options.valid_until);
  X509_set_pubkey(x509.get(), key.get());
  NameTestCertificate(x509.get(), authority ? "localhost" : "issued");
  ExtendTestCertificate(x509.get(), NID_subject_alt_name, options.names);
  ExtendTestCertificate(x509.get(), NID_basic_constraints,
                        authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
  SignTestCertificate(x509.get(), options.issuer, key.get());
  BIO* cert_bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(cert_bio, x509.get());
  BIO* key_bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(key_bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return {TakePem(cert_bio), TakePem(key_bio)};
}

}  // namespace tandem
