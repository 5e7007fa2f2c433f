// SPDX-License-Identifier: MIT
// Complex numbers, one by one in double precision and as lanes.
#pragma once

#include "damped_conv/product.h"
#include "ssno/elementary.h"

namespace ssno::SSNO_ISA {

// Not std::complex: its functions would be shared between instruction sets.
struct Complex {
    double re = 0, im = 0;
};
inline Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
inline Complex operator*(Complex a, Complex b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
inline Complex operator*(double s, Complex a) { return {s * a.re, s * a.im}; }
inline Complex conj(Complex a) { return {a.re, -a.im}; }
inline Complex inverse(Complex a) {
    const double norm = a.re * a.re + a.im * a.im;
    return {a.re / norm, -a.im / norm};
}

// exp(rate steps) and, without cancellation, 1 - exp(rate steps)
inline Complex decay_over(Complex rate, double steps) {
    const double magnitude = __builtin_exp(rate.re * steps), phase = rate.im * steps;
    if (magnitude == 0) return {};
    return {magnitude * __builtin_cos(phase), magnitude * __builtin_sin(phase)};
}
inline Complex decayed_over(Complex rate, double steps) {
    const double a = rate.re * steps, b = rate.im * steps, half = __builtin_sin(0.5 * b);
    const double magnitude = __builtin_exp(a);
    return {2 * half * half * magnitude - __builtin_expm1(a), -magnitude * __builtin_sin(b)};
}

template <class T>
struct Point {
    Vec<T> re, im;
    static SSNO_INLINE Point load(const T* p) {
        return {SSNO_ISA::load<T>(p), SSNO_ISA::load<T>(p + Lanes<T>::W)};
    }
    static SSNO_INLINE Point one() { return {splat<T>(1), Vec<T>{}}; }
    SSNO_INLINE void store(T* p) const {
        SSNO_ISA::store<T>(p, re);
        SSNO_ISA::store<T>(p + Lanes<T>::W, im);
    }
    SSNO_INLINE Point operator+(const Point& b) const { return {re + b.re, im + b.im}; }
    SSNO_INLINE Point operator-(const Point& b) const { return {re - b.re, im - b.im}; }
    SSNO_INLINE Point operator*(const Point& b) const {
        return {re * b.re - im * b.im, re * b.im + im * b.re};
    }
    SSNO_INLINE Point by_i() const { return {-im, re}; }
    // By a number, or by its conjugate
    SSNO_INLINE Point by(const T* w) const {
        return {w[0] * re - w[1] * im, w[0] * im + w[1] * re};
    }
    SSNO_INLINE Point by_conj(const T* w) const {
        return {w[0] * re + w[1] * im, w[0] * im - w[1] * re};
    }
};

// Tiny values are as good as 0 and would be slow as denormals.
template <class T>
constexpr double TINY = sizeof(T) == 8 ? 1e-290 : 1e-30;
template <class T>
T settled(double x) {
    return static_cast<T>(__builtin_fabs(x) < TINY<T> ? 0.0 : x);  // no branch on the sign
}
template <class T>
SSNO_INLINE Vec<double> settled(Vec<double> x) {
    const IVec<double> tiny = (IVec<double>)(absolute<double>(x) < TINY<T>);  // not for NaN
    return from_bits<double>(bits<double>(x) & ~tiny);
}

// sums[i] = sum of the lanes of row i, for W rows
template <class T>
SSNO_INLINE void sum_rows(const T* rows, T* sums) {
    constexpr int W = Lanes<T>::W;
    Vec<T> r[W];
    for (int i = 0; i < W; ++i) r[i] = load<T>(rows + i * W);
    store<T>(sums, sum_each<T>(r));
}

}  // namespace ssno::SSNO_ISA
