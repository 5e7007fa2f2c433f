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
    SSNO_UNROLL
    for (int i = M - 2; i >= 0; --i) p = p * x + static_cast<T>(c[i]);
    return p;
}

// 1.5 * 2^mantissa: adding it rounds to an integer, which then stands in the lowest bits.
template <class T>
constexpr T ROUND_TO_INTEGER = sizeof(T) == 8 ? T(6755399441055744.0) : T(12582912.0);
template <class T>
constexpr int MANTISSA = sizeof(T) == 8 ? 52 : 23;

template <class T>
constexpr typename Lanes<T>::Int SIGN = std::numeric_limits<typename Lanes<T>::Int>::min();

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

// max(low, x) and min(high, x); NaN in x passes.
#if defined(SSNO_F16C) && SSNO_VECTOR_BYTES == 64
SSNO_INLINE Vec<float> at_least(Vec<float> low, Vec<float> x) { return _mm512_max_ps(low, x); }
SSNO_INLINE Vec<float> at_most(Vec<float> high, Vec<float> x) { return _mm512_min_ps(high, x); }
SSNO_INLINE Vec<double> at_least(Vec<double> low, Vec<double> x) { return _mm512_max_pd(low, x); }
SSNO_INLINE Vec<double> at_most(Vec<double> high, Vec<double> x) { return _mm512_min_pd(high, x); }
#elif defined(SSNO_F16C)
SSNO_INLINE Vec<float> at_least(Vec<float> low, Vec<float> x) { return _mm256_max_ps(low, x); }
SSNO_INLINE Vec<float> at_most(Vec<float> high, Vec<float> x) { return _mm256_min_ps(high, x); }
SSNO_INLINE Vec<double> at_least(Vec<double> low, Vec<double> x) { return _mm256_max_pd(low, x); }
SSNO_INLINE Vec<double> at_most(Vec<double> high, Vec<double> x) { return _mm256_min_pd(high, x); }
#else
template <class V>
SSNO_INLINE V at_least(V low, V x) {
    return x < low ? low : x;
}
template <class V>
SSNO_INLINE V at_most(V high, V x) {
    return x > high ? high : x;
}
#endif

#if defined(SSNO_AVX512)
constexpr int TO_NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
#if SSNO_VECTOR_BYTES == 64
SSNO_INLINE Vec<double> round(Vec<double> x) { return _mm512_roundscale_pd(x, TO_NEAREST); }
SSNO_INLINE Vec<double> scale2(Vec<double> p, Vec<double> n) { return _mm512_scalef_pd(p, n); }
SSNO_INLINE Vec<float> estimate_reciprocal(Vec<float> x) { return _mm512_rcp14_ps(x); }
SSNO_INLINE IVec<float> to_integer(Vec<float> x) { return (IVec<float>)_mm512_cvtps_epi32(x); }
SSNO_INLINE IVec<float> look_up(const int32_t* table, IVec<float> i) {
    return (IVec<float>)_mm512_permutexvar_epi32((__m512i)i, _mm512_load_si512(table));
}
#else
SSNO_INLINE Vec<double> round(Vec<double> x) { return _mm256_roundscale_pd(x, TO_NEAREST); }
SSNO_INLINE Vec<double> scale2(Vec<double> p, Vec<double> n) { return _mm256_scalef_pd(p, n); }
SSNO_INLINE Vec<float> estimate_reciprocal(Vec<float> x) { return _mm256_rcp14_ps(x); }
SSNO_INLINE IVec<float> to_integer(Vec<float> x) { return (IVec<float>)_mm256_cvtps_epi32(x); }
SSNO_INLINE IVec<float> look_up(const int32_t* table, IVec<float> i) {
    const __m256i* halves = reinterpret_cast<const __m256i*>(table);
    return (IVec<float>)_mm256_permutex2var_epi32(_mm256_load_si256(halves), (__m256i)i,
                                                  _mm256_load_si256(halves + 1));
}
#endif

// bits of 2^(i/16), less those that adding the integer n = i mod 16, shifted to n / 16 in the
// exponent, has too many
constexpr int32_t sixteenth(double power, int i) {
    return __builtin_bit_cast(int32_t, static_cast<float>(power)) - (i << 19);
}
alignas(64) constexpr int32_t SIXTEENTHS[16] = {sixteenth(1.0, 0),
                                                sixteenth(1.0442737824274138, 1),
                                                sixteenth(1.0905077326652577, 2),
                                                sixteenth(1.1387886347566916, 3),
                                                sixteenth(1.189207115002721, 4),
                                                sixteenth(1.241857812073484, 5),
                                                sixteenth(1.2968395546510096, 6),
                                                sixteenth(1.3542555469368927, 7),
                                                sixteenth(1.4142135623730951, 8),
                                                sixteenth(1.4768261459394993, 9),
                                                sixteenth(1.5422108254079407, 10),
                                                sixteenth(1.6104903319492543, 11),
                                                sixteenth(1.681792830507429, 12),
                                                sixteenth(1.7562521603732995, 13),
                                                sixteenth(1.8340080864093424, 14),
                                                sixteenth(1.9152065613971472, 15)};
#endif

// Whether exp2 takes 2^(i/16) from a table of one or two registers; its argument then comes in
// sixteenths, so that no multiplication is spent on them.
template <class T>
#if defined(SSNO_AVX512)
constexpr bool BY_TABLE = sizeof(T) == 4;
#else
constexpr bool BY_TABLE = false;
#endif
template <class T>
constexpr T EXP2_UNIT = BY_TABLE<T> ? T(16) : T(1);
// Arguments of exp2 up to here need no care about the ends of the range of exponents.
template <class T>
constexpr T EXP2_BOUND = EXP2_UNIT<T> * (sizeof(T) == 8 ? T(1021) : T(125));

// What a caller promises of the argument of exp2, NaN aside.
enum class Range { any, negative, bounded };  // bounded: |x| <= EXP2_BOUND

// 2^(x / EXP2_UNIT), within 1 ulp (2 without fused multiply-add); less than the smallest normal
// number below it, infinity above the largest.
template <class T, Range R = Range::any>
SSNO_INLINE Vec<T> exp2(Vec<T> x) {
#if defined(SSNO_SCALAR)
    return exp2_device(x);
#else
    constexpr bool LOW = R != Range::bounded, HIGH = R == Range::any;
#if defined(SSNO_AVX512)
    if constexpr (BY_TABLE<T>) {
        Vec<T> y = x;
        if (LOW) y = at_least(splat<T>(-2032), y);
        if (HIGH) y = at_most(splat<T>(2047), y);
        const IVec<T> n = to_integer(y);
        const Vec<T> f = y - __builtin_convertvector(n, Vec<T>);
        const Vec<T> power = from_bits<T>(look_up(SIXTEENTHS, n) + (n << 19));
        // 2^(f/16) - 1 over f, its slope at 0 as exact as that of exp2_fraction
        constexpr double c[] = {4.3321698785e-02, 9.3841517032e-04, 1.3551115980e-05};
        const Vec<T> result = power * (f * horner<T>(f, c)) + power;
        if constexpr (!HIGH) return result;
        return x > T(2047) ? splat<T>(std::numeric_limits<T>::infinity()) : result;
    } else {
        if (LOW) x = at_least(splat<T>(-1100), x);  // -infinity would come out as NaN
        const Vec<T> n = round(x), f = x - n;
        return scale2(exp2_fraction<T>(f) * f + T(1), n);
    }
#else
    constexpr int BIAS = sizeof(T) == 8 ? 1023 : 127;
    if (LOW) x = at_least(splat<T>(-BIAS), x);
    if (HIGH) x = at_most(splat<T>(BIAS + 1), x);
    const Vec<T> shifted = x + ROUND_TO_INTEGER<T>;
    const Vec<T> f = x - (shifted - ROUND_TO_INTEGER<T>);
    // n = -BIAS gives the bits of 0, n = BIAS + 1 those of infinity
    const Vec<T> scale = from_bits<T>((bits<T>(shifted) + BIAS) << MANTISSA<T>);
    return (exp2_fraction<T>(f) * f + T(1)) * scale;
#endif
#endif
}

// 1 / x for x from 1 to 4
template <class T>
SSNO_INLINE Vec<T> reciprocal(Vec<T> x) {
#if defined(SSNO_AVX512) || defined(SSNO_SCALAR)
    if constexpr (sizeof(T) == 4) {
        const Vec<T> r = estimate_reciprocal(x);
        return r * (T(1) - x * r) + r;
    }
#endif
    return T(1) / x;
}

// a b - c, rounded once where the instruction set can
#if defined(SSNO_SCALAR)
template <class V>
SSNO_INLINE V mul_sub(V a, V b, V c) {
    return fma(a, b, -c);
}
#elif defined(SSNO_F16C) && SSNO_VECTOR_BYTES == 64
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
    const IVec<T> sign = IVec<T>{} + SIGN<T>;
    cosine = from_bits<T>(((a & ~odd) | (b & odd)) ^ (((n + 1) << TOP) & sign));
    sine = from_bits<T>(((b & ~odd) | (a & odd)) ^ ((n << TOP) & sign));
}

// log(1 + y) for 0 <= y <= 1: 2 atanh(s), s = y / (2 + y)
template <class T>
SSNO_INLINE Vec<T> log1p_unit(Vec<T> y) {
    const Vec<T> s = y * reciprocal<T>(y + T(2));
    const Vec<T> q = s * s;
    if constexpr (sizeof(T) == 4) {
        constexpr double c[] = {2.00000000793, 0.666663146411, 0.400249111426, 0.279605979988,
                                0.281783316844};
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
    return from_bits<T>(bits<T>(x) & ~SIGN<T>);
}

template <class T>
SSNO_INLINE Vec<T> exp_minus_absolute(Vec<T> s) {
    return exp2<T, Range::negative>(from_bits<T>(bits<T>(s) | SIGN<T>) * T(LOG2_E * EXP2_UNIT<T>));
}

// log(1 + e^s), linear above 20 (where a float holds no difference)
template <class T>
SSNO_INLINE Vec<T> softplus(Vec<T> s) {
    const Vec<T> value = log1p_unit<T>(exp_minus_absolute<T>(s)) + at_least(Vec<T>{}, s);
    if constexpr (sizeof(T) == 4) return value;
    return s > T(20) ? s : value;
}

template <class T>
SSNO_INLINE Vec<T> sigmoid(Vec<T> s) {
    const Vec<T> y = exp_minus_absolute<T>(s);
    const Vec<T> r = reciprocal<T>(y + T(1));
    return s > T(0) ? r : y * r;
}

// the derivative of softplus
template <class T>
SSNO_INLINE Vec<T> softplus_slope(Vec<T> s) {
    return s > T(20) ? splat<T>(1) : sigmoid<T>(s);
}

}  // namespace ssno::SSNO_ISA
