// SPDX-License-Identifier: MIT
// The four nonlinearities of (A4) and their derivatives, on vectors of lanes.
#pragma once

#include "ssno/elementary.h"

namespace ssno::SSNO_ISA::alias_free {

template <class T>
struct LeakyRelu {
    T negative;
    SSNO_INLINE Vec<T> value(Vec<T> s) const { return s > T(0) ? s : s * negative; }
    SSNO_INLINE Vec<T> slope(Vec<T> s) const { return s > T(0) ? splat<T>(1) : splat<T>(negative); }
};

template <class T>
struct Silu {
    SSNO_INLINE Vec<T> value(Vec<T> s) const { return s * sigmoid<T>(s); }
    SSNO_INLINE Vec<T> slope(Vec<T> s) const {
        const Vec<T> r = sigmoid<T>(s);
        return r + r * (s - s * r);
    }
};

// 2^u for u <= 0 as scale (1 + rest): a power of 2, and what tanh takes without cancellation. Below
// the range of exponents it ends at the smallest normal number.
template <class T>
struct Power {
    Vec<T> scale, rest;
    SSNO_INLINE explicit Power(Vec<T> u) {
        constexpr int BIAS = sizeof(T) == 8 ? 1023 : 127;
        u = u < T(1 - BIAS) ? splat<T>(1 - BIAS) : u;  // written so that NaN passes
        const Vec<T> shifted = u + ROUND_TO_INTEGER<T>, f = u - (shifted - ROUND_TO_INTEGER<T>);
        scale = from_bits<T>((bits<T>(shifted) + BIAS) << MANTISSA<T>);
        rest = exp2_fraction<T>(f) * f;
    }
    SSNO_INLINE Vec<T> value() const { return scale * rest + scale; }
    SSNO_INLINE Vec<T> minus_one() const { return scale * rest + (scale - T(1)); }
};

template <class T>
struct Tanh {
    SSNO_INLINE Vec<T> value(Vec<T> s) const {
        const Vec<T> y = Power<T>(absolute<T>(s) * T(-2 * LOG2_E)).minus_one();
        const Vec<T> r = -y / (y + T(2));
        return s < T(0) ? -r : r;
    }
    SSNO_INLINE Vec<T> slope(Vec<T> s) const {
        const Vec<T> y = Power<T>(absolute<T>(s) * T(-2 * LOG2_E)).value();
        const Vec<T> r = T(1) / (y + T(1));
        return y * r * r * T(4);
    }
};

// The normal distribution function. Its tail below -z is e^(-z^2 / 2) times a polynomial in
// (z - k) / (z + k), a fit made for this file: 1.8e-8 for float, 1.3e-17 for double.
template <class T>
SSNO_INLINE Vec<T> normal_tail(Vec<T> z, Vec<T> gauss) {
    constexpr T CENTRE = sizeof(T) == 4 ? 3 : 5;
    const Vec<T> t = (z - CENTRE) / (z + CENTRE);
    if constexpr (sizeof(T) == 4) {
        constexpr double c[] = {0.12151394696,     -0.20640261743,    0.12322507145,
                                -0.046213323677,   0.0061316748361,   0.0029046283242,
                                -0.00098246951807, -0.00033914544916, 0.00011416948898,
                                5.2853430767e-5};
        return gauss * horner<T>(t, c);
    } else {
        constexpr double c[] = {
            0.0769193049750062961,    -0.143457555264011971,     0.116068811886003226,
            -0.0808838772641275469,   0.047855352284173491,      -0.0234139004876873069,
            0.00899137055052184093,   -0.00237884435677934791,   0.000219550738298727448,
            0.000134276844287655808,  -0.0000604274866205514783, 9.61300670537514384e-7,
            6.64443419818941879e-6,   -1.27005632214492308e-6,   -6.75104855942475126e-7,
            2.43302993790139672e-7,   7.71364882134773623e-8,    -3.9107788538409443e-8,
            -1.10069419847562852e-8,  5.64285876000715709e-9,    1.81953271515740127e-9,
            -5.54403652136080677e-10, -2.26113985841215894e-10};
        return gauss * horner<T>(t, c);
    }
}

template <class T>
struct Gelu {
    SSNO_INLINE static Vec<T> distribution(Vec<T> s, Vec<T>& gauss) {
        Vec<T> z = absolute<T>(s);
        z = z < T(40) ? z : splat<T>(40);  // from there on the tail is 0
        gauss = Power<T>(z * z * T(-0.5 * LOG2_E)).value();
        gauss = z < T(40) ? gauss : Vec<T>{};
        const Vec<T> tail = normal_tail<T>(z, gauss);
        return s > T(0) ? T(1) - tail : tail;
    }
    SSNO_INLINE Vec<T> value(Vec<T> s) const {
        Vec<T> gauss;
        return s * distribution(s, gauss);
    }
    SSNO_INLINE Vec<T> slope(Vec<T> s) const {
        Vec<T> gauss;
        const Vec<T> below = distribution(s, gauss);
        return below + s * gauss * T(0.39894228040143267794);  // 1 / sqrt(2 pi)
    }
};

}  // namespace ssno::SSNO_ISA::alias_free
