// SPDX-License-Identifier: MIT
// Real and complex numbers, a vector of lanes each, under the same names, so that a recurrence and
// its adjoint are written once. Cotangents are dL/dRe + i dL/dIm, as PyTorch's gradients are.
#pragma once

#include "ssno/elementary.h"

namespace ssno::SSNO_ISA {

template <class T, bool Complex>
struct Number {
    static constexpr int PARTS = Complex ? 2 : 1;
    Vec<T> part[PARTS];  // the real part, the imaginary part

    // Parts `stride` elements apart.
    static SSNO_INLINE Number load(const T* p, int64_t stride) {
        Number x;
        for (int c = 0; c < PARTS; ++c) x.part[c] = SSNO_ISA::load<T>(p + c * stride);
        return x;
    }
    SSNO_INLINE void store(T* p, int64_t stride) const {
        for (int c = 0; c < PARTS; ++c) SSNO_ISA::store<T>(p + c * stride, part[c]);
    }
};

template <class T>
using Real = Number<T, false>;
template <class T>
using Cplx = Number<T, true>;

template <class T, bool X>
SSNO_INLINE Number<T, X> operator+(const Number<T, X>& a, const Number<T, X>& b) {
    Number<T, X> r;
    for (int c = 0; c < r.PARTS; ++c) r.part[c] = a.part[c] + b.part[c];
    return r;
}

template <class T, bool X>
SSNO_INLINE Number<T, X> scale(Vec<T> s, const Number<T, X>& a) {
    Number<T, X> r;
    for (int c = 0; c < r.PARTS; ++c) r.part[c] = s * a.part[c];
    return r;
}

// s a + b for a real s
template <class T, bool X>
SSNO_INLINE Number<T, X> scale_add(Vec<T> s, const Number<T, X>& a, const Number<T, X>& b) {
    Number<T, X> r;
    for (int c = 0; c < r.PARTS; ++c) r.part[c] = s * a.part[c] + b.part[c];
    return r;
}

// a b
template <class T>
SSNO_INLINE Real<T> mul(const Real<T>& a, const Real<T>& b) {
    return {{a.part[0] * b.part[0]}};
}
template <class T>
SSNO_INLINE Cplx<T> mul(const Cplx<T>& a, const Cplx<T>& b) {
    return {{a.part[0] * b.part[0] - a.part[1] * b.part[1],
             a.part[0] * b.part[1] + a.part[1] * b.part[0]}};
}

// conj(a) b
template <class T>
SSNO_INLINE Real<T> conj_mul(const Real<T>& a, const Real<T>& b) {
    return mul(a, b);
}
template <class T>
SSNO_INLINE Cplx<T> conj_mul(const Cplx<T>& a, const Cplx<T>& b) {
    return {{a.part[0] * b.part[0] + a.part[1] * b.part[1],
             a.part[0] * b.part[1] - a.part[1] * b.part[0]}};
}

// Re(conj(a) b)
template <class T>
SSNO_INLINE Vec<T> dot(const Real<T>& a, const Real<T>& b) {
    return a.part[0] * b.part[0];
}
template <class T>
SSNO_INLINE Vec<T> dot(const Cplx<T>& a, const Cplx<T>& b) {
    return a.part[0] * b.part[0] + a.part[1] * b.part[1];
}

// Re' of (S4), the contribution C h of one state to y, and its cotangents in h and in C
template <class T>
SSNO_INLINE Vec<T> observe(const Real<T>& C, const Real<T>& h) {
    return C.part[0] * h.part[0];
}
template <class T>
SSNO_INLINE Vec<T> observe(const Cplx<T>& C, const Cplx<T>& h) {
    return T(2) * (C.part[0] * h.part[0] - C.part[1] * h.part[1]);
}
template <class T>
SSNO_INLINE Real<T> observe_vjp(const Real<T>& other, Vec<T> v_y) {
    return {{v_y * other.part[0]}};
}
template <class T>
SSNO_INLINE Cplx<T> observe_vjp(const Cplx<T>& other, Vec<T> v_y) {
    const Vec<T> twice = v_y + v_y;
    return {{twice * other.part[0], -twice * other.part[1]}};
}

template <class T>
constexpr double LARGEST = std::numeric_limits<T>::max();

// A in the units of exp2 and of quarter turns. A frequency comes in two parts, high and low:
// rounded to one, it would turn the state too far by the same angle at every step of a long memory.
template <class T, bool Complex>
struct Rate {
    static constexpr int PARTS = Complex ? 3 : 1;
    Vec<T> part[PARTS];

    static SSNO_INLINE Rate load(const T* p, int64_t stride) {
        Rate x;
        for (int c = 0; c < PARTS; ++c) x.part[c] = SSNO_ISA::load<T>(p + c * stride);
        return x;
    }
    // The parts of one lane from those of its A; parts lie `stride` elements apart. What would be
    // infinite is the largest number instead: a step of 0, as steps that fill a tile up have, times
    // infinity would be NaN.
    static SSNO_INLINE void split(const T* A, T* to, int64_t stride) {
        const double x = static_cast<double>(A[0]) * LOG2_E * EXP2_UNIT<T>;
        to[0] = static_cast<T>(x > LARGEST<T> ? LARGEST<T> : x < -LARGEST<T> ? -LARGEST<T> : x);
        if constexpr (Complex) {
            constexpr double QUARTERS = 0.63661977236758138243, REST = -3.93573533503649716e-17;
            const double frequency = static_cast<double>(A[stride]);
            const double y = frequency * QUARTERS;  // 2 / pi is QUARTERS + REST
            const double error = __builtin_fma(frequency, QUARTERS, -y) + frequency * REST;
            to[stride] = static_cast<T>(y);
            to[2 * stride] = static_cast<T>((y - static_cast<double>(to[stride])) + error);
        }
    }
};

// exp(dt A); `R` promises where dt times the first part lies.
template <Range R, class T>
SSNO_INLINE Real<T> decay(Vec<T> dt, const Rate<T, false>& rate) {
    return {{exp2<T, R>(dt * rate.part[0])}};
}
template <Range R, class T>
SSNO_INLINE Cplx<T> decay(Vec<T> dt, const Rate<T, true>& rate) {
    const Vec<T> magnitude = exp2<T, R>(dt * rate.part[0]);
    Vec<T> cosine, sine;
    cos_sin_quarters<T>(dt, rate.part[1], rate.part[2], cosine, sine);
    return {{magnitude * cosine, magnitude * sine}};
}
}  // namespace ssno::SSNO_ISA
