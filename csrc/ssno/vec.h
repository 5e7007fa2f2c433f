// SPDX-License-Identifier: MIT
// Vectors of lanes on the compiler's own vector types (GCC and Clang): arithmetic is written with
// + - *, and one source serves every instruction set. Each file of kernels is compiled for one
// instruction set: it defines SSNO_ISA (a namespace) and SSNO_VECTOR_BYTES, then includes this.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SSNO_INLINE inline __attribute__((always_inline))

namespace ssno::SSNO_ISA {

template <class T>
struct Lanes {
    static constexpr int W = SSNO_VECTOR_BYTES / sizeof(T);
    using Int = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;
    typedef T V __attribute__((vector_size(SSNO_VECTOR_BYTES)));
    typedef Int I __attribute__((vector_size(SSNO_VECTOR_BYTES)));
};
template <class T>
using Vec = typename Lanes<T>::V;
template <class T>
using IVec = typename Lanes<T>::I;

template <class T>
SSNO_INLINE Vec<T> load(const T* p) {
    Vec<T> v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <class T>
SSNO_INLINE void store(T* p, Vec<T> v) {
    std::memcpy(p, &v, sizeof v);
}
template <class T>
SSNO_INLINE Vec<T> splat(T x) {
    return Vec<T>{} + x;
}
template <class T>
SSNO_INLINE IVec<T> bits(Vec<T> v) {
    return (IVec<T>)v;
}
template <class T>
SSNO_INLINE Vec<T> from_bits(IVec<T> i) {
    return (Vec<T>)i;
}

// The lanes of a and b in turn: a0 b0 a1 b1 ... of their lower (Half = 0) or upper halves.
template <class T, int Half, int... J>
SSNO_INLINE Vec<T> interleave(Vec<T> a, Vec<T> b, std::integer_sequence<int, J...>) {
    constexpr int W = Lanes<T>::W;
#if defined(__clang__)
    return __builtin_shufflevector(a, b, (Half * W / 2 + J / 2 + (J % 2) * W)...);
#else
    return __builtin_shuffle(a, b, IVec<T>{(Half * W / 2 + J / 2 + (J % 2) * W)...});
#endif
}
template <class T, int Half>
SSNO_INLINE Vec<T> interleave(Vec<T> a, Vec<T> b) {
    return interleave<T, Half>(a, b, std::make_integer_sequence<int, Lanes<T>::W>{});
}

// r[i] holds row i; afterwards it holds column i.
template <class T>
SSNO_INLINE void transpose(Vec<T> (&r)[Lanes<T>::W]) {
    constexpr int W = Lanes<T>::W;
#pragma GCC unroll 8
    for (int stage = 1; stage < W; stage *= 2) {
        Vec<T> next[W];
#pragma GCC unroll 16
        for (int i = 0; i < W / 2; ++i) {
            next[2 * i] = interleave<T, 0>(r[i], r[i + W / 2]);
            next[2 * i + 1] = interleave<T, 1>(r[i], r[i + W / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) r[i] = next[i];
    }
}

// Lane i of the result is the sum of the lanes of r[i]. The order of the additions is fixed.
template <class T>
SSNO_INLINE Vec<T> sum_each(Vec<T> (&r)[Lanes<T>::W]) {
#pragma GCC unroll 8
    for (int half = Lanes<T>::W / 2; half >= 1; half /= 2) {
#pragma GCC unroll 16
        for (int i = 0; i < half; ++i)
            r[i] = interleave<T, 0>(r[i], r[i + half]) + interleave<T, 1>(r[i], r[i + half]);
    }
    return r[0];
}

template <class T>
SSNO_INLINE T sum(Vec<T> v) {
    T s = 0;
    for (int i = 0; i < Lanes<T>::W; ++i) s += v[i];
    return s;
}

}  // namespace ssno::SSNO_ISA
