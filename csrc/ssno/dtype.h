// SPDX-License-Identifier: MIT
// The dtypes of activations, as bits in memory, and their conversion to and from the type computed
// in. Half precisions are stored as integers, so that no compiler support for them is needed.
#pragma once

#include "ssno/dtypes.h"
#include "ssno/vec.h"

namespace ssno::SSNO_ISA {

struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

SSNO_INLINE float as_float(uint32_t i) {
    float x;
    std::memcpy(&x, &i, 4);
    return x;
}
SSNO_INLINE uint32_t as_bits(float x) {
    uint32_t i;
    std::memcpy(&i, &x, 4);
    return i;
}

SSNO_INLINE double widen(double x) { return x; }
SSNO_INLINE float widen(float x) { return x; }
SSNO_INLINE float widen(bf16 x) { return as_float(static_cast<uint32_t>(x.bits) << 16); }
SSNO_INLINE float widen(f16 x) {
#if defined(SSNO_F16C)
    return _cvtsh_ss(x.bits);
#else
    const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
    const uint32_t rest = static_cast<uint32_t>(x.bits & 0x7fff) << 13;
    // 2^112 rebiases the exponent and, done in floating point, normalises subnormals on the way
    const float magnitude = as_float(rest) * as_float(0x77800000u);
    const bool special = (x.bits & 0x7c00) == 0x7c00;
    return as_float(sign | (special ? rest | 0x7f800000u : as_bits(magnitude)));
#endif
}

// Rounding to nearest, ties to even; NaN stays NaN.
SSNO_INLINE void narrow(double x, double& y) { y = x; }
SSNO_INLINE void narrow(float x, float& y) { y = x; }
SSNO_INLINE void narrow(float x, bf16& y) {
    const uint32_t i = as_bits(x);
    y.bits = x != x ? 0x7fc0 : static_cast<uint16_t>((i + 0x7fff + ((i >> 16) & 1)) >> 16);
}
SSNO_INLINE void narrow(float x, f16& y) {
#if defined(SSNO_F16C)
    y.bits = _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT);
#else
    const uint32_t i = as_bits(x), sign = (i >> 16) & 0x8000, rest = i & 0x7fffffffu;
    uint32_t half;
    if (rest > 0x7f800000u) {
        half = 0x7e00;
    } else if (rest >= 0x477ff000u) {  // rounds to 65536 or more
        half = 0x7c00;
    } else if (rest < 0x38800000u) {  // subnormal: adding 0.5 rounds at the bit of weight 2^-24
        half = as_bits(as_float(rest) + 0.5f) - as_bits(0.5f);
    } else {
        half = (rest - (112u << 23) + 0xfff + ((rest >> 13) & 1)) >> 13;
    }
    y.bits = static_cast<uint16_t>(sign | half);
#endif
}

// As many 16-bit and 32-bit integers as a vector has floats
typedef uint16_t Halves __attribute__((vector_size(SSNO_VECTOR_BYTES / 2)));
typedef uint32_t Words __attribute__((vector_size(SSNO_VECTOR_BYTES)));

// One vector from consecutive elements in memory.
template <class T, class S>
SSNO_INLINE Vec<T> load_as(const S* p) {
    if constexpr (std::is_same_v<S, T>) {
        return load<T>(p);
    } else if constexpr (std::is_same_v<S, bf16>) {
        Halves h;
        std::memcpy(&h, p, sizeof h);
        return from_bits<T>((IVec<T>)(__builtin_convertvector(h, Words) << 16));
    } else {
#if defined(SSNO_AVX512) && SSNO_VECTOR_BYTES == 64
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(SSNO_F16C) && SSNO_VECTOR_BYTES == 32
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
        Vec<T> v;
        for (int i = 0; i < Lanes<T>::W; ++i) v[i] = widen(p[i]);
        return v;
#endif
    }
}

template <class T, class S>
SSNO_INLINE void store_as(S* p, Vec<T> v) {
    if constexpr (std::is_same_v<S, T>) {
        store<T>(p, v);
    } else if constexpr (std::is_same_v<S, bf16>) {
        const Words i = (Words)v, nan = (Words)(v != v);
        const Words rounded = (i + 0x7fff + ((i >> 16) & 1)) >> 16;
        const Words chosen = (rounded & ~nan) | (nan & 0x7fc0);
        const Halves h = __builtin_convertvector(chosen, Halves);
        std::memcpy(p, &h, sizeof h);
    } else {
#if defined(SSNO_AVX512) && SSNO_VECTOR_BYTES == 64
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                            _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(SSNO_F16C) && SSNO_VECTOR_BYTES == 32
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                         _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#else
        for (int i = 0; i < Lanes<T>::W; ++i) narrow(v[i], p[i]);
#endif
    }
}

// Call f with a value of the type in which activations lie in memory.
template <class T, class F>
SSNO_INLINE void with_dtype(Dtype dtype, F f) {
    if constexpr (sizeof(T) == 8) {
        f(double{});
    } else {
        if (dtype == Dtype::f32) f(float{});
        if (dtype == Dtype::bf16) f(bf16{});
        if (dtype == Dtype::f16) f(f16{});
    }
}

}  // namespace ssno::SSNO_ISA
