#include "tests/bench/machine_peak.h"

#include <immintrin.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <filesystem>
#include <functional>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "worker/backend/cpu/huge_pages.h"
#include "worker/backend/cpu/thread_pool.h"

namespace tandem {
namespace {

constexpr int kChains = 12;  // enough independent sums to hide an instruction's latency
constexpr int64_t kRounds = 4000000;

__attribute__((target("avx512f"), noinline)) float Fma512() {
  __m512 sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int64_t round = 0; round < kRounds; ++round) {
    for (__m512& sum : sums) sum = _mm512_fmadd_ps(sum, a, b);
  }
  for (int i = 1; i < kChains; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  return _mm512_cvtss_f32(sums[0]);
}

__attribute__((target("avx2,fma"), noinline)) float Fma256() {
  __m256 sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int64_t round = 0; round < kRounds; ++round) {
    for (__m256& sum : sums) sum = _mm256_fmadd_ps(sum, a, b);
  }
  for (int i = 1; i < kChains; ++i) sums[0] = _mm256_add_ps(sums[0], sums[i]);
  return _mm256_cvtss_f32(sums[0]);
}

__attribute__((target("avx512f,avx512vnni"), noinline)) int Dot512() {
  __m512i sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_epi32(i);
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-5);
  for (int64_t round = 0; round < kRounds; ++round) {
    for (__m512i& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, b);
  }
  for (int i = 1; i < kChains; ++i) sums[0] = _mm512_add_epi32(sums[0], sums[i]);
  alignas(64) int lanes[16];
  _mm512_store_si512(lanes, sums[0]);
  return lanes[0];
}

__attribute__((target("avx2"), noinline)) uint64_t Read(const uint8_t* data, size_t bytes) {
  __m256i sums[4] = {};
  for (size_t at = 0; at < bytes; at += 128) {
    for (int i = 0; i < 4; ++i) {
      const auto* const piece = reinterpret_cast<const __m256i*>(data + at + 32 * i);
      sums[i] = _mm256_add_epi64(sums[i], _mm256_load_si256(piece));
    }
  }
  sums[0] =
      _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
  return static_cast<uint64_t>(_mm256_extract_epi64(sums[0], 0));
}

// Keeps a thread (0: this one) on one core, by its index among those of the process.
void PinThread(int thread, int core) {
  static const cpu_set_t kCores = [] {  // as they were before the first call
    cpu_set_t cores;
    CPU_ZERO(&cores);
    (void)sched_getaffinity(0, sizeof(cores), &cores);
    return cores;
  }();
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &kCores) || core-- > 0) continue;
    CPU_SET(cpu, &one);
    break;
  }
  (void)sched_setaffinity(thread, sizeof(one), &one);
}

double ThreadSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Amount of work done per second by all threads together, each counting its own CPU time; the best
// of several tries, so that neighbours count little. `work` does `amount`.
double Rate(int threads, double amount, const std::function<void(int thread)>& work) {
  constexpr int kTries = 9;
  std::vector<double> best(threads, 0);
  {
    std::vector<std::jthread> all;
    for (int thread = 0; thread < threads; ++thread) {
      all.emplace_back([&, thread] {
        PinThread(0, thread);
        for (int i = 0; i < kTries; ++i) {
          const double begin = ThreadSeconds();
          work(thread);
          best[thread] = std::max(best[thread], amount / (ThreadSeconds() - begin));
        }
      });
    }
  }
  return std::accumulate(best.begin(), best.end(), 0.0);
}

}  // namespace

MachinePeak MeasurePeak(int threads) {
  std::atomic<uint64_t> sink{0};  // so that the compiler keeps the work
  const bool wide = __builtin_cpu_supports("avx512f");
  const double flop = 2.0 * (wide ? 16 : 8) * kChains * kRounds;
  MachinePeak peak;
  peak.flop_per_s =
      Rate(threads, flop, [&](int) { sink += static_cast<uint64_t>(wide ? Fma512() : Fma256()); });
  if (__builtin_cpu_supports("avx512vnni")) {
    peak.int8_op_per_s = Rate(threads, 2.0 * 64 * kChains * kRounds,
                              [&](int) { sink += static_cast<uint64_t>(Dot512()); });
  }
  constexpr size_t kBytes = size_t{256} << 20;  // of each thread; far more than a cache
  auto pages = HugePages::Map(kBytes * threads);
  if (!pages.ok()) return peak;
  std::fill(pages->data(), pages->data() + kBytes * threads, uint8_t{1});
  peak.bytes_per_s = Rate(
      threads, kBytes, [&](int thread) { sink += Read(pages->data() + thread * kBytes, kBytes); });
  return peak;
}

int AvailableThreads() { return AvailableCores(); }

void PinThreads() {
  std::vector<int> threads;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    threads.push_back(std::stoi(entry.path().filename()));
  }
  std::sort(threads.begin(), threads.end());  // in the order in which they were made
  for (size_t i = 0; i < threads.size(); ++i) PinThread(threads[i], static_cast<int>(i));
}

}  // namespace tandem
