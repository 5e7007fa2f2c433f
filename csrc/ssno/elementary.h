// SPDX-License-Identifier: MIT
// Elementary functions on vectors of lanes. Polynomials are minimax fits made for this file; the
// errors stated are the largest found over all float32 arguments (tests/test_elementary.py).
#pragma once

#include <limits>

#include "ssno/vec.h"

namespace ssno::SSNO_ISA {

template <class T, int M>
SSNO_INLINE Vec<T> horner(Vec<T> x, const double (&c)[M]) {
    Vec<T> p = splat<T>(static_cast<T>(c[M - 1]));
#pragma GCC unroll 16
    for (int i = M - 2; i >= 0; --i) p = p * x + static_cast<T>(c[i]);
    return p;
}

// 1.5 * 2^mantissa: adding it rounds to an integer, which then stands in the lowest bits.
template <class T>
constexpr T ROUND_TO_INTEGER = sizeof(T) == 8 ? T(6755399441055744.0) : T(12582912.0);
template <class T>
constexpr int MANTISSA = sizeof(T) == 8 ? 52 : 23;

// (2^f - 1) / f for |f| <= 1/2
template <class T>
SSNO_INLINE Vec<T> exp2_fraction(Vec<T> f) {
    if constexpr (sizeof(T) == 4) {
        constexpr double c[] = {6.9314692855e-01, 2.4022235743e-01, 5.5507419333e-02,
                                9.6718232494e-03, 1.3272170979e-03};
        return horner<T>(f, c);
    } else {
        constexpr double c[] = {
            0.693147180559945309,     0.240226506959100712,    0.055504108664821627,
            0.00961812910762847949,   0.00133335581464064707,  0.000154035303933707334,
            0.0000152527338415567726, 1.32154868087055628e-6,  1.01780570877339411e-7,
            7.05489730415549928e-9,   4.45581790833606449e-10, 2.57293241773623042e-11};
        return horner<T>(f, c);
    }
}

#if defined(SSNO_AVX512) && SSNO_VECTOR_BYTES == 64
// 2^x = 2^floor(n) 2^(n - floor(n)) 2^f with n the nearest multiple of 1/32. The 32 values of the
// middle factor stand in two registers, and a quadratic does for the last, which leaves four
// operations for the multiply-add units, where the sweep is bound, instead of six.
SSNO_INLINE Vec<float> exp2_by_table(Vec<float> x) {
    alignas(64) static constexpr float POWERS[32] = {
        1.0f,        1.0218972f,  1.04427373f, 1.06714046f, 1.09050775f, 1.1143868f,  1.13878858f,
        1.1637249f,  1.18920708f, 1.21524739f, 1.24185777f, 1.26905096f, 1.29683959f, 1.32523668f,
        1.35425556f, 1.38390994f, 1.41421354f, 1.44518077f, 1.47682619f, 1.50916445f, 1.54221082f,
        1.5759809f,  1.61049032f, 1.64575553f, 1.68179286f, 1.71861935f, 1.75625217f, 1.79470909f,
        1.8340081f,  1.87416768f, 1.91520655f, 1.95714414f,
    };
    constexpr int TO_32NDS = 5 << 4 | _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    constexpr float ROUND_TO_32ND = ROUND_TO_INTEGER<float> / 32;  // leaves 32 n in the lowest bits
    x = _mm512_max_ps(splat<float>(-200.0f), x);
    const Vec<float> n = _mm512_roundscale_ps(x, TO_32NDS);  // a reduction would take twice as long
    const Vec<float> f = x - n;
    const Vec<float> power = _mm512_permutex2var_ps(
        load<float>(POWERS), (__m512i)bits<float>(x + ROUND_TO_32ND), load<float>(POWERS + 16));
    const Vec<float> r = (f * 0.24022649738f + 0.69315732978f) * f;
    return _mm512_scalef_ps(r * power + power, n);
}
#endif

// 2^x, within 2 ulp; 0 below the smallest normal number, infinity above the largest.
template <class T>
SSNO_INLINE Vec<T> exp2(Vec<T> x) {
#if defined(SSNO_AVX512) && SSNO_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4) {
        return exp2_by_table(x);
    } else {
        const __m512d f = _mm512_reduce_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const __m512d n = _mm512_roundscale_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        return _mm512_scalef_pd(exp2_fraction<T>(f) * f + 1.0, n);
    }
#elif defined(SSNO_AVX512) && SSNO_VECTOR_BYTES == 32
    if constexpr (sizeof(T) == 4) {
        const __m256 f = _mm256_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const __m256 n = _mm256_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        return _mm256_scalef_ps(exp2_fraction<T>(f) * f + 1.0f, n);
    } else {
        const __m256d f = _mm256_reduce_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const __m256d n = _mm256_roundscale_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        return _mm256_scalef_pd(exp2_fraction<T>(f) * f + 1.0, n);
    }
#else
    constexpr int BIAS = sizeof(T) == 8 ? 1023 : 127;
    const T low = -BIAS, high = BIAS + 1;
    x = x < low ? splat<T>(low) : x;  // written so that NaN passes
    x = x > high ? splat<T>(high) : x;
    const Vec<T> shifted = x + ROUND_TO_INTEGER<T>;
    const Vec<T> f = x - (shifted - ROUND_TO_INTEGER<T>);
    // n = -BIAS gives the bits of 0, n = BIAS + 1 those of infinity
    const Vec<T> scale = from_bits<T>((bits<T>(shifted) + BIAS) << MANTISSA<T>);
    return (exp2_fraction<T>(f) * f + T(1)) * scale;
#endif
}

// cos and sin of x quarter turns (x pi / 2). Counting in quarter turns makes the reduction exact.
template <class T>
SSNO_INLINE void cos_sin_quarters(Vec<T> x, Vec<T>& cosine, Vec<T>& sine) {
    const Vec<T> shifted = x + ROUND_TO_INTEGER<T>;
    const Vec<T> f = x - (shifted - ROUND_TO_INTEGER<T>);
    const Vec<T> y = f * f;
    Vec<T> c, s;
    if constexpr (sizeof(T) == 4) {
        constexpr double cs[] = {1.57079632195323669, -0.645963477664811795, 0.0796802176477554134,
                                 -0.00460214921281417593};
        constexpr double cc[] = {-1.23370054063316222, 0.253669203655113475, -0.020860069500264077,
                                 0.000903628066380250492};
        s = horner<T>(y, cs) * f;
        c = horner<T>(y, cc) * y + T(1);
    } else {
        constexpr double cs[] = {1.57079632679489662,    -0.645964097506246252,
                                 0.0796926262461669245,  -0.00468175413531482707,
                                 0.0001604411847266723,  -3.5988427171448578e-6,
                                 5.69192785048963342e-8, -6.62762493899247236e-10};
        constexpr double cc[] = {-1.23370055013616983,      0.253669507901048013,
                                 -0.0208634807633529174,    0.000919260274838533092,
                                 -0.0000252020423627333048, 4.71087407753643867e-7,
                                 -6.38632546338635623e-9,   6.50665423542469793e-11};
        s = horner<T>(y, cs) * f;
        c = horner<T>(y, cc) * y + T(1);
    }
    // after n quarter turns: n odd swaps the two, bit 1 of n flips the sine, of n + 1 the cosine
    const IVec<T> n = bits<T>(shifted);
    const IVec<T> odd = -(n & 1);
    const IVec<T> a = bits<T>(c), b = bits<T>(s);
    constexpr int TOP = 8 * sizeof(T) - 2;
    const IVec<T> sign = IVec<T>{} + std::numeric_limits<typename Lanes<T>::Int>::min();
    cosine = from_bits<T>(((a & ~odd) | (b & odd)) ^ (((n + 1) << TOP) & sign));
    sine = from_bits<T>(((b & ~odd) | (a & odd)) ^ ((n << TOP) & sign));
}

// log(1 + y) for 0 <= y <= 1: 2 atanh(s), s = y / (2 + y)
template <class T>
SSNO_INLINE Vec<T> log1p_unit(Vec<T> y) {
    const Vec<T> s = y / (y + T(2));
    const Vec<T> q = s * s;
    if constexpr (sizeof(T) == 4) {
        constexpr double c[] = {1.99999999980900601,  0.666666790264339696, 0.399987112468623316,
                                0.286202074084372383, 0.213985605066785432, 0.243939080840230249};
        return s * horner<T>(q, c);
    } else {
        constexpr double c[] = {2.0,
                                0.666666666666666661,
                                0.40000000000000268,
                                0.285714285713756515,
                                0.22222222227641732,
                                0.181818178521812272,
                                0.15384628221264642,
                                0.133329995203851707,
                                0.117706185552483092,
                                0.104549475155308627,
                                0.100981854686340596,
                                0.0578540899766765006,
                                0.160725661346782718};
        return s * horner<T>(q, c);
    }
}

constexpr double LOG2_E = 1.4426950408889634074;

template <class T>
SSNO_INLINE Vec<T> absolute(Vec<T> x) {
    return x < T(0) ? -x : x;
}

// log(1 + e^s), linear above 20
template <class T>
SSNO_INLINE Vec<T> softplus(Vec<T> s) {
    const Vec<T> y = exp2<T>(absolute<T>(s) * T(-LOG2_E));
    const Vec<T> value = log1p_unit<T>(y) + (s > T(0) ? s : Vec<T>{});
    return s > T(20) ? s : value;
}

template <class T>
SSNO_INLINE Vec<T> sigmoid(Vec<T> s) {
    const Vec<T> y = exp2<T>(absolute<T>(s) * T(-LOG2_E));
    const Vec<T> r = T(1) / (y + T(1));
    return s > T(0) ? r : y * r;
}

// the derivative of softplus
template <class T>
SSNO_INLINE Vec<T> softplus_slope(Vec<T> s) {
    return s > T(20) ? splat<T>(1) : sigmoid<T>(s);
}

}  // namespace ssno::SSNO_ISA
