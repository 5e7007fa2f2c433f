// SPDX-License-Identifier: MIT
// The kernels in 32-byte vectors of AVX-512, for runs of few channels.
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <numeric>
#include <optional>
#include <utility>

#define SSNO_AVX512
#define SSNO_F16C
#define SSNO_ISA avx512vl
#define SSNO_VECTOR_BYTES 32

// The headers above come first: their inline functions are shared by the whole library and must
// stay within the baseline.
#if defined(__clang__)
#pragma clang attribute push(                                                    \
    __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c")
#endif
#include SSNO_KERNELS  // "<op>/kernel_cpu.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
