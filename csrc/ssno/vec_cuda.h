// SPDX-License-Identifier: MIT
// The names of ssno/vec.h where a thread holds single numbers, so that the elementary functions and
// the steps of the scan are the same source on a device.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ssno/cuda.h"

#define SSNO_INLINE SSNO_DEVICE
#define SSNO_UNROLL _Pragma("unroll")
#define SSNO_VECTOR_BYTES 0

namespace ssno::SSNO_ISA {

template <class T>
struct Lanes {
    static constexpr int W = 1;
    using Int = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;
};
template <class T>
using Vec = T;
template <class T>
using IVec = typename Lanes<T>::Int;

template <class T>
SSNO_INLINE T load(const T* p) {
    return *p;
}
template <class T>
SSNO_INLINE void store(T* p, T x) {
    *p = x;
}
template <class T>
SSNO_INLINE T splat(T x) {
    return x;
}
template <class T>
SSNO_INLINE IVec<T> bits(T x) {
    IVec<T> i;
    memcpy(&i, &x, sizeof x);
    return i;
}
template <class T>
SSNO_INLINE T from_bits(IVec<T> i) {
    T x;
    memcpy(&x, &i, sizeof x);
    return x;
}

// The function unit's, which takes any argument
SSNO_INLINE float exp2_device(float x) { return exp2_fast(x); }
SSNO_INLINE double exp2_device(double x) { return ::exp2(x); }

// 1 / x, within an ulp or so
SSNO_INLINE float estimate_reciprocal(float x) {
#if defined(SSNO_HOST_CUDA)
    return 1 / x;
#else
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

}  // namespace ssno::SSNO_ISA
