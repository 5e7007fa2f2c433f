// SPDX-License-Identifier: MIT
// The four nonlinearities of (A4) and their derivatives, on single numbers.
#pragma once

#include <cmath>

#include "alias_free_activation/params.h"
#include "ssno/cuda.h"

namespace ssno::alias_free_activation {

using cuda::exp2_fast;

SSNO_DEVICE float exponential(float x) { return exp2_fast(x * 1.44269504f); }
SSNO_DEVICE double exponential(double x) { return exp(x); }
SSNO_DEVICE float complement(float x) { return erfcf(x); }
SSNO_DEVICE double complement(double x) { return erfc(x); }
SSNO_DEVICE float tangent(float x) { return tanhf(x); }
SSNO_DEVICE double tangent(double x) { return tanh(x); }

template <class T>
SSNO_DEVICE T sigmoid(T s) {
    return T(1) / (T(1) + exponential(-s));
}

// The normal distribution function, also of its tails to full precision.
template <class T>
SSNO_DEVICE T below(T s) {
    return T(0.5) * complement(s * T(-0.70710678118654752440));
}

template <class T>
SSNO_DEVICE T activate(Act act, T s, T negative) {
    if (act == Act::leaky_relu) return s > T(0) ? s : s * negative;
    if (act == Act::silu) return s * sigmoid(s);
    if (act == Act::tanh) return tangent(s);
    return s * below(s);
}

template <class T>
SSNO_DEVICE T slope(Act act, T s, T negative) {
    if (act == Act::leaky_relu) return s > T(0) ? T(1) : negative;
    if (act == Act::silu) {
        const T r = sigmoid(s);
        return r + r * (s - s * r);
    }
    if (act == Act::tanh) {
        const T y = exponential(T(-2) * (s < T(0) ? -s : s)), r = T(1) / (T(1) + y);
        return T(4) * y * r * r;
    }
    return below(s) + s * exponential(T(-0.5) * s * s) * T(0.39894228040143267794);
}

}  // namespace ssno::alias_free_activation
