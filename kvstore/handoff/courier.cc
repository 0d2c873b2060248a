#include "kvstore/handoff/courier.h"

#include <utility>

#include "base/clock.h"

namespace tandem {

Courier::Courier(absl::Duration interval, std::function<void()> tick)
    : interval_(interval), tick_(std::move(tick)) {}

Courier::~Courier() { Stop(); }

void Courier::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Courier::Stop() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
  }
  posted_.NotifyAll();
  if (thread_.joinable()) thread_.join();
}

void Courier::Post(std::function<void()> task) {
  {
    MutexLock lock(&mu_);
    if (stopping_) return;
    tasks_.push_back(std::move(task));
  }
  posted_.NotifyOne();
}

void Courier::Run() {
  absl::Time next_tick = RealClock()->Now() + interval_;
  while (true) {
    std::vector<std::function<void()>> tasks;
    bool last = false;
    {
      MutexLock lock(&mu_);
      const absl::Duration left = next_tick - RealClock()->Now();
      if (tasks_.empty() && !stopping_ && left > absl::ZeroDuration()) {
        posted_.WaitFor(&mu_, left);
      }
      tasks = std::exchange(tasks_, {});
      last = stopping_;
    }
    for (const std::function<void()>& task : tasks) task();
    if (last) return;
    if (RealClock()->Now() >= next_tick) {
      tick_();
      next_tick = RealClock()->Now() + interval_;
    }
  }
}

}  // namespace tandem
