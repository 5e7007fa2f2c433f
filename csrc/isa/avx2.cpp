// SPDX-License-Identifier: MIT
// The kernels in 32-byte vectors of AVX2.
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

#define SSNO_F16C
#define SSNO_ISA avx2
#define SSNO_VECTOR_BYTES 32

// The headers above come first: their inline functions are shared by the whole library and must
// stay within the baseline.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#include SSNO_KERNELS  // "<op>/kernel_cpu.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
