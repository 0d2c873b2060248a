#pragma once
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/tls.h"

namespace tandem {

// The files of one TLS section, read again and again, so that new certificates need no restart.
//   life    a thread looks every `interval`. Files that do not pass ReadTls, such as a certificate
//           whose key is still the old one, are logged, once, and change nothing
//   errors  of Watch: as ReadTls; Unavailable when there is no thread or memory for it
//   threads any
class Certificates {
 public:
  static constexpr absl::Duration kInterval = absl::Seconds(1);
  static absl::StatusOr<std::shared_ptr<const Certificates>> Watch(
      TlsSettings settings, absl::Duration interval = kInterval);
  ~Certificates();

  const TlsSettings& settings() const { return settings_; }
  std::shared_ptr<const TlsFiles> files() const ABSL_LOCKS_EXCLUDED(mu_);

  // For gRPC, which takes new certificates from files only, and which has none at all any more when
  // a new key does not fit: files in memory that hold what files() returns, while this lives. They
  // are replaced whole. Empty: there is no such certificate.
  std::string identity_path() const;  // key and certificate chain
  std::string ca_path() const;

 private:
  // A file without a name. Its contents change, its path does not.
  class MemoryFile {
   public:
    ~MemoryFile();
    absl::Status Replace(const std::string& contents);
    std::string path() const;

   private:
    int fd_ = -1;
  };

  explicit Certificates(TlsSettings settings) : settings_(std::move(settings)) {}
  absl::Status Use(TlsFiles files) ABSL_LOCKS_EXCLUDED(mu_);
  void Look() ABSL_LOCKS_EXCLUDED(mu_);
  void Run(absl::Duration interval) ABSL_LOCKS_EXCLUDED(mu_);

  const TlsSettings settings_;
  MemoryFile identity_, ca_;  // the thread's, once there is one
  std::string refused_;       // the thread's: why the files that are there now are not used
  bool told_ = false;         // the thread's: that this was logged

  mutable Mutex mu_;
  CondVar wake_;
  std::shared_ptr<const TlsFiles> files_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace tandem
