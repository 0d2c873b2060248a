#include "client/cli/endpoint_flags.h"

namespace tandem::cli {

void DeclareEndpoint(Flags* flags, Client::Options* to) {
  flags->Text("endpoint", "H:P", "the router; default 127.0.0.1:9000", &to->endpoint);
  flags->Text("ca-file", "F", "PEM authorities of the router's certificate; turns TLS on",
              &to->ca_file);
  flags->Text("cert-file", "F", "PEM certificate to show to a router that asks for one (mTLS)",
              &to->cert_file);
  flags->Text("key-file", "F", "PEM private key of --cert-file", &to->key_file);
  flags->Text("server-name", "NAME", "what the router's certificate is for; default: the host",
              &to->server_name);
}

}  // namespace tandem::cli
