#include "client/cli/interrupt.h"

#include <pthread.h>
#include <signal.h>

#include "base/status.h"
#include "base/thread.h"

namespace tandem::cli {
namespace {

constexpr timespec kTick = {.tv_sec = 0, .tv_nsec = 50'000'000};

}  // namespace

absl::StatusOr<std::unique_ptr<Interrupt>> Interrupt::Watch(std::function<void()> callback) {
  std::unique_ptr<Interrupt> interrupt(new Interrupt(std::move(callback)));
  ASSIGN_OR_RETURN(interrupt->thread_,
                   StartThread("Ctrl-C", [raw = interrupt.get()] { raw->Loop(); }));
  return interrupt;
}

Interrupt::~Interrupt() {
  {
    MutexLock lock(&mu_);
    finished_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

bool Interrupt::finished() {
  MutexLock lock(&mu_);
  return finished_;
}

void Interrupt::Loop() {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGINT);
  sigaddset(&stop, SIGTERM);
  while (sigtimedwait(&stop, nullptr, &kTick) < 0) {
    if (finished()) return;
  }
  callback_();
  pthread_sigmask(SIG_UNBLOCK, &stop, nullptr);
  MutexLock lock(&mu_);
  while (!finished_) changed_.Wait(&mu_);
}

}  // namespace tandem::cli
