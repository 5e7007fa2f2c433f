// SPDX-License-Identifier: MIT
// cpu_rates: the rates in which benchmarks state the limit of this machine, on all of its threads.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <chrono>
#include <cstring>
#include <vector>

#include "rates/rates.h"
#include "ssno/isa.h"

namespace {

using Clock = std::chrono::steady_clock;
volatile double sink;

// Operations a second of `work(times)`, summed over threads that all run for `seconds`.
template <class F>
double rate(double seconds, F work) {
    const auto threads = static_cast<int64_t>(torch::stable::get_num_threads());
    std::vector<double> rates(threads, 0.0);
    torch::stable::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            double operations = 0, elapsed = 0, result = 0;
            const auto start = Clock::now();
            while (elapsed < seconds) {
                const ssno::Work done = work();
                operations += done.operations;
                result += done.result;
                elapsed = std::chrono::duration<double>(Clock::now() - start).count();
            }
            sink = result;
            rates[i] = operations / elapsed;
        }
    });
    double total = 0;
    for (double r : rates) total += r;
    return total;
}

ssno::Work exponentials() {
    constexpr int64_t TIMES = 10000;
#if defined(__x86_64__)
    if (ssno::cpu_isa() == ssno::kAvx512) return ssno::avx512::exponentials(TIMES);
    if (ssno::cpu_isa() == ssno::kAvx2) return ssno::avx2::exponentials(TIMES);
#endif
    return ssno::plain::exponentials(TIMES);
}

ssno::Work multiply_adds() {
    constexpr int64_t TIMES = 10000;
#if defined(__x86_64__)
    if (ssno::cpu_isa() == ssno::kAvx512) return ssno::avx512::multiply_adds(TIMES);
    if (ssno::cpu_isa() == ssno::kAvx2) return ssno::avx2::multiply_adds(TIMES);
#endif
    return ssno::plain::multiply_adds(TIMES);
}

// Bytes read plus bytes written by a copy between buffers well beyond the caches
ssno::Work copy() {
    constexpr int64_t BYTES = int64_t(64) << 20;
    thread_local std::vector<char> from(BYTES, 1), to(BYTES, 2);
    std::memcpy(to.data(), from.data(), BYTES);
    return {static_cast<double>(to[BYTES / 2]), 2.0 * BYTES};
}

torch::stable::Tensor cpu_rates(int64_t milliseconds) {
    const double seconds = 1e-3 * static_cast<double>(milliseconds);
    const std::vector<int64_t> size{3};
    torch::stable::Tensor out = torch::stable::empty(size, torch::headeronly::ScalarType::Double);
    auto* rates = static_cast<double*>(out.data_ptr());
    copy();  // touches the pages of this thread's buffers
    rates[0] = rate(seconds, exponentials);
    rates[1] = rate(seconds, multiply_adds);
    rates[2] = rate(seconds, copy);
    return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(ssno_kernels, m) { m.def("cpu_rates(int milliseconds) -> Tensor"); }

STABLE_TORCH_LIBRARY_IMPL(ssno_kernels, CompositeExplicitAutograd, m) {
    m.impl("cpu_rates", TORCH_BOX(&cpu_rates));
}
