// SPDX-License-Identifier: MIT
// Vectors of lanes on the compiler's own vector types (GCC and Clang): arithmetic is written with
// + - *, and one source serves every instruction set. Each file of kernels is compiled for one
// instruction set: it defines SSNO_ISA (a namespace) and SSNO_VECTOR_BYTES, then includes this.
#pragma once

#if defined(SSNO_SCALAR)  // the same names for single numbers
#include "ssno/vec_cuda.h"
#else

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SSNO_INLINE inline __attribute__((always_inline))
#define SSNO_UNROLL _Pragma("GCC unroll 16")

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
    return x - Vec<T>{};  // exact for -0 too, so that it costs no addition
}
template <class T>
SSNO_INLINE IVec<T> bits(Vec<T> v) {
    return (IVec<T>)v;
}
template <class T>
SSNO_INLINE Vec<T> from_bits(IVec<T> i) {
    return (Vec<T>)i;
}

// A vector is made of 16-byte groups of elements. Two shuffles of vectors a and b, of which every
// instruction set has each as one instruction:
//   unpack<Half>  a0 b0 a1 b1 ... of the lower (Half = 0) or upper elements of each group
//   groups<Half>  the even (Half = 0) or odd groups of a, then those of b
template <class T>
constexpr int GROUP = 16 / sizeof(T);

template <class T, int Half>
constexpr int unpack_index(int j) {
    constexpr int G = GROUP<T>;
    return j / G * G + j % G / 2 + Half * G / 2 + j % 2 * Lanes<T>::W;
}
template <class T, int Half>
constexpr int groups_index(int j) {
    constexpr int G = GROUP<T>, W = Lanes<T>::W, HALF = W / G > 1 ? W / G / 2 : 1;
    return (j / G % HALF * 2 + Half) * G + j % G + j / G / HALF * W;
}
#if defined(__clang__)
#define SSNO_SHUFFLE(T, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SSNO_SHUFFLE(T, a, b, ...) __builtin_shuffle(a, b, IVec<T>{__VA_ARGS__})
#endif
template <class T, int Half, int... J>
SSNO_INLINE Vec<T> unpack(Vec<T> a, Vec<T> b, std::integer_sequence<int, J...>) {
    return SSNO_SHUFFLE(T, a, b, unpack_index<T, Half>(J)...);
}
template <class T, int Half, int... J>
SSNO_INLINE Vec<T> groups(Vec<T> a, Vec<T> b, std::integer_sequence<int, J...>) {
    return SSNO_SHUFFLE(T, a, b, groups_index<T, Half>(J)...);
}
#undef SSNO_SHUFFLE

// One half of a step that exchanges bit `Bit` of the row's number with one of the column's.
template <class T, int Bit, int Half>
SSNO_INLINE Vec<T> exchange(Vec<T> a, Vec<T> b) {
    constexpr auto all = std::make_integer_sequence<int, Lanes<T>::W>{};
    if constexpr (Bit < GROUP<T>)
        return unpack<T, Half>(a, b, all);
    else
        return groups<T, Half>(a, b, all);
}
template <class T, int Bit>
SSNO_INLINE void exchange_rows(Vec<T> (&r)[Lanes<T>::W]) {
    if constexpr (Bit < Lanes<T>::W)
#pragma GCC unroll 16
        for (int i = 0; i < Lanes<T>::W; ++i)
            if (!(i & Bit)) {
                const Vec<T> a = r[i], b = r[i + Bit];
                r[i] = exchange<T, Bit, 0>(a, b);
                r[i + Bit] = exchange<T, Bit, 1>(a, b);
            }
}
template <class T, int Bit, int Done>
SSNO_INLINE void add_rows(Vec<T> (&r)[Lanes<T>::W]) {
    if constexpr (Bit < Lanes<T>::W)
#pragma GCC unroll 16
        for (int i = 0; i < Lanes<T>::W; ++i)
            if (!(i & (Done | Bit)))
                r[i] =
                    exchange<T, Bit, 0>(r[i], r[i + Bit]) + exchange<T, Bit, 1>(r[i], r[i + Bit]);
}

// r[i] holds row i; afterwards it holds column i.
template <class T>
SSNO_INLINE void transpose(Vec<T> (&r)[Lanes<T>::W]) {
    constexpr int G = GROUP<T>;
    if constexpr (G == 4) exchange_rows<T, 2>(r);
    exchange_rows<T, 1>(r);
    exchange_rows<T, G>(r);
    exchange_rows<T, 2 * G>(r);
}

// Lane i of the result is the sum of the lanes of r[i]. The order of the additions is fixed.
template <class T>
SSNO_INLINE Vec<T> sum_each(Vec<T> (&r)[Lanes<T>::W]) {
    constexpr int G = GROUP<T>;
    if constexpr (G == 4) add_rows<T, 2, 0>(r);
    add_rows<T, 1, G - 1>(r);
    add_rows<T, G, G - 1>(r);
    add_rows<T, 2 * G, 2 * G - 1>(r);
    return r[0];
}

template <class T>
SSNO_INLINE T sum(Vec<T> v) {
    T s = 0;
    for (int i = 0; i < Lanes<T>::W; ++i) s += v[i];
    return s;
}

}  // namespace ssno::SSNO_ISA

#endif
