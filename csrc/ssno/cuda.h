// SPDX-License-Identifier: MIT
// What kernels for NVIDIA devices use, under names of our own. A kernel file includes this and
// knows nothing else of CUDA, so that the same file also runs on the host: with SSNO_HOST_CUDA
// defined, host_cuda.h gives the same names there (tests/host_cuda), checks every access to shared
// memory and every barrier, and nothing below applies.
//
//   SSNO_KERNEL(threads, blocks)   before a kernel's name: threads a block, blocks a multiprocessor
//   SSNO_CONSTANT                  before a kernel's parameter that is a struct
//   SSNO_DEVICE, SSNO_BOTH         before a function of the device, of the device and the host
//   thread() lane() warp()         within the block; blocks are one-dimensional, whole warps
//   block_x() block_y() block_z()  within the grid
//   block_number()                 in a grid of any size, grid_of(blocks): rows of blocks, of which
//                                  the last may be too long, so that a kernel has to look
//   shared<T>(offset)              a handle to shared memory, from a byte on: load, store, load16
//
// Barriers, which every thread must reach: sync_block, sync_warp. By all lanes of a warp, of values
// of 4 or 8 bytes: shuffle, shuffle_up, shuffle_down, shuffle_xor. Of 16 aligned bytes of global
// memory, as a Pack: load16, store16; to shared memory, waited for in groups: copy_async16,
// copy_commit, copy_wait<N>. On the tensor cores, by all lanes of a warp: mma_tf32, which drops
// the last 13 bits of a float; after round_tf32 that rounds it, rest_tf32 is what it drops.
// exp2_fast is 2^x to two ulp, 0 below 2^-126. bf16 and f16 are bits in memory: widen, narrow.
// launch is called from host code and throws std::runtime_error. computed(x) is x, kept as a
// number: what is computed from it does not repeat how x was.
#pragma once

#include <cstdint>

namespace ssno::cuda {

// 16 bytes, the widest access.
template <class T>
struct alignas(16) Pack {
    static constexpr int SIZE = 16 / sizeof(T);
    T v[SIZE];
};

struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

struct Grid {
    int64_t x = 1, y = 1, z = 1;  // below 2^31, 2^16, 2^16
};

}  // namespace ssno::cuda

#if defined(SSNO_HOST_CUDA)
#include <host_cuda.h>
#else
#include "ssno/cuda_device.h"
#endif

namespace ssno::cuda {

SSNO_DEVICE int64_t block_number() { return block_y() * BLOCKS_OF_ROW + block_x(); }
inline Grid grid_of(int64_t blocks) {
    const int64_t rows = (blocks + BLOCKS_OF_ROW - 1) / BLOCKS_OF_ROW;
    return {rows > 1 ? BLOCKS_OF_ROW : blocks, rows};
}

}  // namespace ssno::cuda
