#pragma once

namespace tandem {

struct MachinePeak {
  double flop_per_s = 0;     // float32 multiply-adds, the widest vectors this CPU has
  double int8_op_per_s = 0;  // products and sums of bytes by vpdpbusd; 0 where a CPU lacks it
  double bytes_per_s = 0;    // read from memory, in 2 MiB pages
};

// Measures for about a second; the best of several short tries, so that neighbours count little.
MachinePeak MeasurePeak(int threads);

int AvailableThreads();

// Keeps each thread that this process has now on a core of its own: on a busy machine a scheduler
// now and then puts two of them on one.
void PinThreads();

}  // namespace tandem
