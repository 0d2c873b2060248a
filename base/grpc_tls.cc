#include "base/grpc_tls.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <openssl/bio.h>
#include <openssl/pem.h>

#include <string>
#include <utility>
#include <vector>

#include "base/address.h"
#include "base/grpc_status.h"
#include "base/tls_peer.h"

namespace tandem {
namespace {

namespace tls = grpc::experimental;

constexpr unsigned kRefreshSeconds = 1;

// Checks the name in a certificate that came from the right authority. gRPC keeps it as long as
// anything that reads the certificates' files, and so it keeps them.
class PeerNameVerifier final : public tls::ExternalCertificateVerifier {
 public:
  enum class Unnamed { kAny, kTarget };  // whom to admit where the settings have no names

  PeerNameVerifier(std::shared_ptr<const Certificates> certificates, Unnamed unnamed)
      : certificates_(std::move(certificates)), unnamed_(unnamed) {}

  bool Verify(tls::TlsCustomVerificationCheckRequest* request, std::function<void(grpc::Status)>,
              grpc::Status* status) override {
    *status = ToGrpcStatus(Check(*request));
    return true;  // done
  }
  void Cancel(tls::TlsCustomVerificationCheckRequest*) override {}

 private:
  absl::Status Check(const tls::TlsCustomVerificationCheckRequest& request) const {
    std::vector<std::string> names = certificates_->settings().peer_names;
    if (names.empty() && unnamed_ == Unnamed::kAny) return absl::OkStatus();
    if (names.empty()) names.push_back(HostOf(request.target_name()));
    const grpc::string_ref pem = request.peer_cert();
    const std::unique_ptr<BIO, decltype(&BIO_free)> bio(
        BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free);
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(
        PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr), X509_free);
    if (certificate == nullptr) return absl::PermissionDeniedError("the peer has no certificate");
    return CheckPeerName(certificate.get(), names);
  }

  static std::string HostOf(grpc::string_ref target) {
    const std::string text(target.data(), target.size());
    const absl::StatusOr<HostPort> address = ParseHostPort(text);
    return address.ok() ? address->host : text;
  }

  const std::shared_ptr<const Certificates> certificates_;
  const Unnamed unnamed_;
};

std::shared_ptr<tls::CertificateProviderInterface> ProviderOf(const Certificates& certificates) {
  const std::string identity = certificates.identity_path();
  return std::make_shared<tls::FileWatcherCertificateProvider>(
      identity, identity, certificates.ca_path(), kRefreshSeconds);
}

// What both kinds of credentials have in common.
void Follow(const Certificates& certificates, std::shared_ptr<tls::CertificateVerifier> verifier,
            tls::TlsCredentialsOptions* options) {
  if (!certificates.identity_path().empty()) options->watch_identity_key_cert_pairs();
  if (!certificates.ca_path().empty()) options->watch_root_certs();
  options->set_certificate_verifier(std::move(verifier));
  options->set_check_call_host(false);  // the verifier has looked at the host
}

}  // namespace

std::shared_ptr<grpc::ServerCredentials> TlsServerCredentials(
    std::shared_ptr<const Certificates> certificates) {
  tls::TlsServerCredentialsOptions options(ProviderOf(*certificates));
  options.set_cert_request_type(certificates->ca_path().empty()
                                    ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                    : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  Follow(*certificates,
         tls::ExternalCertificateVerifier::Create<PeerNameVerifier>(
             certificates, PeerNameVerifier::Unnamed::kAny),
         &options);
  return tls::TlsServerCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> TlsChannelCredentials(
    std::shared_ptr<const Certificates> certificates) {
  tls::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(ProviderOf(*certificates));
  Follow(*certificates,
         tls::ExternalCertificateVerifier::Create<PeerNameVerifier>(
             certificates, PeerNameVerifier::Unnamed::kTarget),
         &options);
  return tls::TlsCredentials(options);
}

}  // namespace tandem
