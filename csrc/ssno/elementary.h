// SPDX-License-Identifier: MIT
// Elementary functions on vectors of lanes. Polynomials are minimax fits made for this file; the
// errors stated are the largest found over a sample of arguments (tests/test_cpu_kernels.py).
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
        // The slope at 0 is ln 2 to the last bit, and the mean error nil: a long memory multiplies
        // many decays close to 1, which must not all be off the same way.
        constexpr double c[] = {6.9314718246e-01, 2.4022647326e-01, 5.5503590752e-02,
                                9.6185059061e-03, 1.3391197341e-03, 1.5334968438e-04};
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

#if defined(SSNO_AVX512)
constexpr int TO_NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
#if SSNO_VECTOR_BYTES == 64
SSNO_INLINE Vec<float> round(Vec<float> x) { return _mm512_roundscale_ps(x, TO_NEAREST); }
SSNO_INLINE Vec<double> round(Vec<double> x) { return _mm512_roundscale_pd(x, TO_NEAREST); }
SSNO_INLINE Vec<float> at_least(Vec<float> low, Vec<float> x) { return _mm512_max_ps(low, x); }
SSNO_INLINE Vec<double> at_least(Vec<double> low, Vec<double> x) { return _mm512_max_pd(low, x); }
SSNO_INLINE Vec<float> scale2(Vec<float> p, Vec<float> n) { return _mm512_scalef_ps(p, n); }
SSNO_INLINE Vec<double> scale2(Vec<double> p, Vec<double> n) { return _mm512_scalef_pd(p, n); }
#else
SSNO_INLINE Vec<float> round(Vec<float> x) { return _mm256_roundscale_ps(x, TO_NEAREST); }
SSNO_INLINE Vec<double> round(Vec<double> x) { return _mm256_roundscale_pd(x, TO_NEAREST); }
SSNO_INLINE Vec<float> at_least(Vec<float> low, Vec<float> x) { return _mm256_max_ps(low, x); }
SSNO_INLINE Vec<double> at_least(Vec<double> low, Vec<double> x) { return _mm256_max_pd(low, x); }
SSNO_INLINE Vec<float> scale2(Vec<float> p, Vec<float> n) { return _mm256_scalef_ps(p, n); }
SSNO_INLINE Vec<double> scale2(Vec<double> p, Vec<double> n) { return _mm256_scalef_pd(p, n); }
#endif
#endif

// 2^x, within 1 ulp (2 without fused multiply-add); 0 below the smallest normal number, infinity
// above the largest.
template <class T>
SSNO_INLINE Vec<T> exp2(Vec<T> x) {
#if defined(SSNO_AVX512)
    const T low = sizeof(T) == 8 ? T(-1100) : T(-160);
    x = at_least(splat<T>(low), x);  // -infinity would come out as NaN; NaN passes
    const Vec<T> n = round(x), f = x - n;
    return scale2(exp2_fraction<T>(f) * f + T(1), n);
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

// a b - c, rounded once where the instruction set can
#if defined(SSNO_F16C) && SSNO_VECTOR_BYTES == 64
SSNO_INLINE Vec<float> mul_sub(Vec<float> a, Vec<float> b, Vec<float> c) {
    return _mm512_fmsub_ps(a, b, c);
}
SSNO_INLINE Vec<double> mul_sub(Vec<double> a, Vec<double> b, Vec<double> c) {
    return _mm512_fmsub_pd(a, b, c);
}
#elif defined(SSNO_F16C)
SSNO_INLINE Vec<float> mul_sub(Vec<float> a, Vec<float> b, Vec<float> c) {
    return _mm256_fmsub_ps(a, b, c);
}
SSNO_INLINE Vec<double> mul_sub(Vec<double> a, Vec<double> b, Vec<double> c) {
    return _mm256_fmsub_pd(a, b, c);
}
#else
typedef float Floats __attribute__((vector_size(SSNO_VECTOR_BYTES)));
typedef double Doubles __attribute__((vector_size(SSNO_VECTOR_BYTES)));
typedef double WideDoubles __attribute__((vector_size(2 * SSNO_VECTOR_BYTES)));
SSNO_INLINE Floats mul_sub(Floats a, Floats b, Floats c) {  // a double holds the product exactly
    const WideDoubles x = __builtin_convertvector(a, WideDoubles),
                      y = __builtin_convertvector(b, WideDoubles),
                      z = __builtin_convertvector(c, WideDoubles), difference = x * y - z;
    return __builtin_convertvector(difference, Floats);
}
SSNO_INLINE Doubles mul_sub(Doubles a, Doubles b, Doubles c) { return a * b - c; }
#endif

// cos and sin of t (high + low) quarter turns, of pi / 2 each. Whole turns are taken off the exact
// product, so what is left is as good as its own rounding, however many turns there are.
template <class T>
SSNO_INLINE void cos_sin_quarters(Vec<T> t, Vec<T> high, Vec<T> low, Vec<T>& cosine, Vec<T>& sine) {
    const Vec<T> shifted = t * high + ROUND_TO_INTEGER<T>;
    const Vec<T> f = t * low + mul_sub(t, high, shifted - ROUND_TO_INTEGER<T>);
    const Vec<T> y = f * f;
    Vec<T> c, s;  // s: what the sine has beyond its slope
    if constexpr (sizeof(T) == 4) {
        constexpr double cs[] = {-0.645963477664811795, 0.0796802176477554134,
                                 -0.00460214921281417593};
        constexpr double cc[] = {-1.23370054063316222, 0.253669203655113475, -0.020860069500264077,
                                 0.000903628066380250492};
        s = horner<T>(y, cs) * y;
        c = horner<T>(y, cc) * y + T(1);
    } else {
        constexpr double cs[] = {-0.645964097506246252,   0.0796926262461669245,
                                 -0.00468175413531482707, 0.0001604411847266723,
                                 -3.5988427171448578e-6,  5.69192785048963342e-8,
                                 -6.62762493899247236e-10};
        constexpr double cc[] = {-1.23370055013616983,      0.253669507901048013,
                                 -0.0208634807633529174,    0.000919260274838533092,
                                 -0.0000252020423627333048, 4.71087407753643867e-7,
                                 -6.38632546338635623e-9,   6.50665423542469793e-11};
        s = horner<T>(y, cs) * y;
        c = horner<T>(y, cc) * y + T(1);
    }
    // the slope pi / 2 in two parts, for the same reason as the frequency
    constexpr double SLOPE = 1.57079632679489661923;
    constexpr T HIGH = static_cast<T>(SLOPE);
    constexpr T LOW = sizeof(T) == 4 ? static_cast<T>(SLOPE - HIGH) : T(6.12323399573676604e-17);
    s = f * HIGH + f * (s + LOW);
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
