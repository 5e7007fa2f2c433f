// SPDX-License-Identifier: MIT
// Kernels, right and wrong, that tests/test_host_cuda.py runs to see what the harness says of them.
#include <cstdio>
#include <exception>
#include <map>
#include <string>
#include <vector>

#include "ssno/cuda.h"

namespace {

using namespace ssno::cuda;

// Sums 64 numbers; without the barrier, the neighbour may not have written yet.
template <bool Barrier>
SSNO_KERNEL(64, 1)
sum_kernel(const float* x, float* y) {
    const Shared<float> s = shared<float>(0);
    s.store(thread(), x[block_x() * 64 + thread()]);
    for (int half = 32; half > 0; half /= 2) {
        if (Barrier) sync_block();
        if (thread() < half) s.store(thread(), s.load(thread()) + s.load(thread() + half));
    }
    if (thread() == 0) y[block_x()] = s.load(0);
}

// Each warp hands values on within itself.
template <bool Barrier>
SSNO_KERNEL(64, 1)
rotate_kernel(const float* x, float* y) {
    const Shared<float> s = shared<float>(0);
    s.store(thread(), x[thread()]);
    if (Barrier) sync_warp();
    y[thread()] = s.load(thread() / 32 * 32 + (thread() + 1) % 32);
}

// Reads what another warp still reads, then writes it: the race of a missing second barrier.
SSNO_KERNEL(64, 1) overwrite_kernel(const float* x, float* y) {
    const Shared<float> s = shared<float>(0);
    if (thread() == 0) s.store(0, x[0]);
    sync_block();
    y[thread()] = s.load(0);
    if (thread() == 40) s.store(0, x[1]);
}

SSNO_KERNEL(64, 1) two_writers_kernel(const float* x, float*) {
    shared<float>(0).store(thread() / 2, x[thread()]);
}
// A barrier of each warp does not order one warp after another.
SSNO_KERNEL(64, 1) warp_after_warp_kernel(const float* x, float* y) {
    const Shared<float> s = shared<float>(0);
    if (thread() == 0) s.store(0, x[0]);
    sync_warp();
    y[thread()] = s.load(0);
}

SSNO_KERNEL(64, 1) shuffle_kernel(const float* x, float* y) {
    double total = x[thread()];
    for (int mask = 16; mask > 0; mask /= 2) total += shuffle_xor(total, mask);
    float sum = x[thread()];  // of the lanes up to this one
    for (int by = 1; by < 32; by *= 2) {
        const float before = shuffle_up(sum, by);
        if (lane() >= by) sum += before;
    }
    const float last = shuffle(sum, 31), next = shuffle_down(x[thread()], 1);
    y[thread()] = static_cast<float>(total) - last + next;
}

// A shuffle is no barrier for shared memory.
SSNO_KERNEL(64, 1) shuffle_for_barrier_kernel(const float* x, float* y) {
    const Shared<float> s = shared<float>(0);
    s.store(thread(), x[thread()]);
    const float one = shuffle_xor(x[thread()], 1);
    y[thread()] = one + s.load(thread() ^ 1);
}

// The barrier is in a branch that only some threads take; others end, or wait elsewhere.
SSNO_KERNEL(64, 1) branch_kernel(const float* x, float* y) {
    if (thread() < 48) sync_block();
    y[thread()] = x[thread()];
}
SSNO_KERNEL(64, 1) two_barriers_kernel(const float* x, float* y) {
    if (thread() < 48) {
        sync_block();
    } else {
        sync_block();
    }
    y[thread()] = x[thread()];
}
SSNO_KERNEL(64, 1) shuffle_branch_kernel(const float* x, float* y) {
    y[thread()] = thread() < 48 ? shuffle_xor(x[thread()], 1) : x[thread()];
}
SSNO_KERNEL(64, 1) two_shuffles_kernel(const float* x, float* y) {
    y[thread()] = thread() % 2 ? shuffle_xor(x[thread()], 1) :  //
                      shuffle_xor(x[thread()], 2);
}

SSNO_KERNEL(64, 1) unwritten_kernel(const float*, float* y) {
    y[thread()] = shared<float>(0).load(thread());
}
SSNO_KERNEL(64, 1) beyond_kernel(const float* x, float*) {
    shared<float>(4).store(thread(), x[thread()]);
}
SSNO_KERNEL(64, 1) misaligned_kernel(const float* x, float*) {
    shared<float>(4).store16(0, load16(x));
}
// Of global memory, which only AddressSanitizer sees.
SSNO_KERNEL(64, 1) global_kernel(const float* x, float* y) { y[thread() + 1] = x[thread()]; }

template <bool Wait>
SSNO_KERNEL(64, 1)
copy_kernel(const float* x, float* y) {
    const Shared<float> s = shared<float>(0);
    if (thread() < 16) copy_async16(s, 4 * thread(), x + 4 * thread());
    copy_commit();
    if (Wait) copy_wait<0>();
    sync_block();
    y[thread()] = s.load(63 - thread());
    copy_wait<0>();
}

using Kernel = void (*)(const float*, float*);
const std::map<std::string, Kernel> KERNELS = {
    {"sum", sum_kernel<true>},
    {"sum_without_barrier", sum_kernel<false>},
    {"rotate", rotate_kernel<true>},
    {"rotate_without_barrier", rotate_kernel<false>},
    {"overwrite", overwrite_kernel},
    {"two_writers", two_writers_kernel},
    {"warp_after_warp", warp_after_warp_kernel},
    {"shuffle", shuffle_kernel},
    {"shuffle_for_barrier", shuffle_for_barrier_kernel},
    {"branch", branch_kernel},
    {"two_barriers", two_barriers_kernel},
    {"shuffle_branch", shuffle_branch_kernel},
    {"two_shuffles", two_shuffles_kernel},
    {"unwritten", unwritten_kernel},
    {"beyond", beyond_kernel},
    {"misaligned", misaligned_kernel},
    {"global", global_kernel},
    {"copy", copy_kernel<true>},
    {"copy_without_wait", copy_kernel<false>},
};

}  // namespace

// Runs the kernel named first on 0, 1, 2, ... with the blocks, threads and shared bytes that
// follow.
int main(int, char** arguments) {
    const int blocks = std::stoi(arguments[2]), threads = std::stoi(arguments[3]);
    std::vector<float> x(64 * blocks), y(64);
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
    try {
        launch(KERNELS.at(arguments[1]), {blocks}, threads, std::stoi(arguments[4]), nullptr,
               x.data(), y.data());
    } catch (const std::exception& error) {
        std::printf("%s\n", error.what());
        return 1;
    }
    for (float value : y) std::printf("%g ", value);
}
