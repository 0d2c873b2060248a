#include "base/certificates.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "base/thread.h"

namespace tandem {

Certificates::MemoryFile::~MemoryFile() {
  if (fd_ >= 0) close(fd_);
}

std::string Certificates::MemoryFile::path() const {
  return fd_ < 0 ? "" : absl::StrCat("/proc/self/fd/", fd_);
}

absl::Status Certificates::MemoryFile::Replace(const std::string& contents) {
  const int fresh = memfd_create("tandem_tls", MFD_CLOEXEC);
  const auto failed = [fresh](absl::string_view what) {
    const int error = errno;
    if (fresh >= 0) close(fresh);
    return absl::UnavailableError(
        absl::StrCat("a certificate in memory: ", what, ": ", std::strerror(error)));
  };
  if (fresh < 0) return failed("memfd_create");
  const ssize_t wrote = pwrite(fresh, contents.data(), contents.size(), 0);
  if (wrote != static_cast<ssize_t>(contents.size())) return failed("write");
  if (fd_ < 0) {
    fd_ = fresh;
    return absl::OkStatus();
  }
  if (dup3(fresh, fd_, O_CLOEXEC) < 0) return failed("dup3");
  close(fresh);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Certificates>> Certificates::Watch(TlsSettings settings,
                                                                        absl::Duration interval) {
  std::shared_ptr<Certificates> made(new Certificates(std::move(settings)));
  ASSIGN_OR_RETURN(TlsFiles files, ReadTls(made->settings_));
  RETURN_IF_ERROR(made->Use(std::move(files)));
  Certificates* const watched = made.get();
  ASSIGN_OR_RETURN(made->thread_, StartThread("watching certificates",
                                              [watched, interval] { watched->Run(interval); }));
  return std::shared_ptr<const Certificates>(std::move(made));
}

Certificates::~Certificates() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    wake_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

std::shared_ptr<const TlsFiles> Certificates::files() const {
  MutexLock lock(&mu_);
  return files_;
}

std::string Certificates::identity_path() const { return identity_.path(); }
std::string Certificates::ca_path() const { return ca_.path(); }

absl::Status Certificates::Use(TlsFiles files) {
  if (!files.cert.empty()) {
    RETURN_IF_ERROR(identity_.Replace(absl::StrCat(files.key, "\n", files.cert)));
  }
  if (!files.ca.empty()) {
    RETURN_IF_ERROR(ca_.Replace(files.ca));
  }
  MutexLock lock(&mu_);
  files_ = std::make_shared<const TlsFiles>(std::move(files));
  return absl::OkStatus();
}

void Certificates::Look() {
  absl::StatusOr<TlsFiles> now = ReadTls(settings_);
  if (now.ok() && *now == *files()) {
    refused_.clear();
    told_ = false;
    return;
  }
  const absl::Status used = now.ok() ? Use(*std::move(now)) : now.status();
  const std::string why(used.message());
  if (used.ok()) LogInfo("tls files are reloaded", {{"section", settings_.section}});
  // Files that are being replaced one after the other are no news: those that stay wrong are.
  const bool again = why == refused_;
  if (again && !told_ && !why.empty()) {
    LogWarning("new tls files are not used", {{"section", settings_.section}, {"why", why}});
  }
  told_ = again;
  refused_ = why;
}

void Certificates::Run(absl::Duration interval) {
  while (true) {
    {
      MutexLock lock(&mu_);
      if (!stopping_) wake_.WaitFor(&mu_, interval);
      if (stopping_) return;
    }
    Look();
  }
}

}  // namespace tandem
