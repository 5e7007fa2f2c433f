// SPDX-License-Identifier: MIT
// Tables of one channel: powers of lambda, made in double precision, and the kernel's first lags.
#pragma once

#include "damped_conv/product.h"

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

// Tiny values are as good as 0 and would be slow as denormals.
template <class T>
T settled(double x) {
    constexpr double TINY = sizeof(T) == 8 ? 1e-290 : 1e-30;
    return static_cast<T>(x < TINY && x > -TINY ? 0.0 : x);
}

struct Mode {
    Complex rate, lambda, coeff;
    Mode(const Params& p, int sweep, int64_t channel, int64_t n) {
        const int64_t i = 2 * ((sweep * p.channels + channel) * p.modes + n);
        rate = {p.rate[i], p.rate[i + 1]};
        coeff = {p.coeff[i], p.coeff[i + 1]};
        lambda = decay_over(rate, 1);
    }
};

// A recurrence over the samples of a chunk in the order of its walk: with e steps to come,
// state += scale lambda^e x, then y = Re(seen lambda^steps_done state). The sweep itself has scale
// 1 and seen 2 c lambda; its adjoint has scale 2 c lambda and seen 1, and walks the other way.
template <class T>
struct Walk {
    const T* power;    // (chunk + 1, N, 2): lambda^e
    const T* slope;    // (chunk, N, 2): e lambda^e; null if not made
    const T* observe;  // (chunk, N, 2): the real part and minus the imaginary part of seen lambda^e
    const T* scale;    // (N, 2); null for 1
    bool from_end;
    int64_t modes;

    int64_t states() const { return 2 * modes; }

    // By which a chunk of samples contributes to the states at its end, from `table`
    Matrix<T> inject(const T* table, int64_t steps) const {
        if (from_end) return {table, 1, states()};
        return {table + (steps - 1) * states(), 1, -states()};
    }
    // By which the states before a chunk contribute to its samples
    Matrix<T> output(int64_t steps) const {
        if (!from_end) return {observe, states(), 1};
        return {observe + (steps - 1) * states(), -states(), 1};
    }
};

template <class T>
struct ModeTables {
    Buffer<T> power, slope, observe, scale;
    int64_t modes, chunk;
    bool from_end, adjoint;

    // Powers where states are carried from chunk to chunk, slopes where they are differentiated
    ModeTables(const Params& p, int sweep, int64_t chunk_, bool is_adjoint, bool powers,
               bool slopes)
        : power(powers ? (chunk_ + 1) * 2 * p.modes : 0),
          slope(powers && slopes ? chunk_ * 2 * p.modes : 0),
          observe(powers ? chunk_ * 2 * p.modes : 0),
          scale(is_adjoint ? 2 * p.modes : 0),
          modes(p.modes),
          chunk(chunk_),
          from_end(p.from_end[sweep] != is_adjoint),
          adjoint(is_adjoint) {}

    // Fill for one channel, and add the kernel's lags 0 .. chunk - 1 to lag[0], lag[stride], ...
    void fill(const Params& p, int sweep, int64_t channel, double* lag, int64_t stride) {
        for (int64_t n = 0; n < modes; ++n) {
            const Mode m(p, sweep, channel, n);
            const Complex gain = 2.0 * m.coeff * m.lambda;
            Complex k = 2.0 * m.coeff;
            for (int64_t e = 0; e < chunk; ++e, k = k * m.lambda) lag[e * stride] += k.re;
            if (adjoint) put(scale + 2 * n, gain);
            if (power) fill_powers(n, m.lambda, adjoint ? Complex{1} : gain);
        }
    }
    void fill_powers(int64_t n, Complex lambda, Complex seen) {
        Complex z{1};
        for (int64_t e = 0; e <= chunk; ++e, z = z * lambda, seen = seen * lambda) {
            const int64_t i = (e * modes + n) * 2;
            put(power + i, z);
            if (e == chunk) break;
            put(observe + i, conj(seen));
            if (slope) put(slope + i, static_cast<double>(e) * z);
        }
    }
    static void put(T* to, Complex z) {
        to[0] = settled<T>(z.re);
        to[1] = settled<T>(z.im);
    }

    Walk<T> walk() const { return {power, slope, observe, scale, from_end, modes}; }
    Walk<T> reversed() const {  // the sweep, of its adjoint's tables, for the states alone
        return {power, slope, nullptr, nullptr, !from_end, modes};
    }
};

// All of one channel. `adjoint`: of the transposed operator
template <class T>
struct ChannelTables {
    ModeTables<T> first, second;
    Buffer<double> lags;
    Buffer<T> kernel;  // lags -(chunk - 1) .. chunk - 1
    int64_t chunk;
    bool past, future;  // whether there are lags above and below 0

    ChannelTables(const Params& p, const Plan& plan, bool is_adjoint, bool slopes)
        : first(p, 0, plan.chunk, is_adjoint, plan.has_states, slopes),
          second(p, 1, plan.chunk, is_adjoint, plan.has_states && p.sweeps > 1, slopes),
          lags(2 * plan.chunk - 1),
          kernel(2 * plan.chunk - 1),
          chunk(plan.chunk),
          past(p.sweeps > 1 || !first.from_end),
          future(p.sweeps > 1 || first.from_end) {}

    ModeTables<T>& sweep(int s) { return s ? second : first; }
    const ModeTables<T>& sweep(int s) const { return s ? second : first; }
    const T* lag_zero() const { return kernel + chunk - 1; }

    void fill(const Params& p, int64_t channel) {
        for (int64_t i = 0; i < 2 * chunk - 1; ++i) lags[i] = 0;
        double* zero = lags + chunk - 1;
        for (int s = 0; s < p.sweeps; ++s)
            sweep(s).fill(p, s, channel, zero, sweep(s).from_end ? -1 : 1);
        if (p.skip) *zero += p.skip[channel];
        for (int64_t i = 0; i < 2 * chunk - 1; ++i) kernel[i] = settled<T>(lags[i]);
    }
};

}  // namespace ssno::SSNO_ISA
