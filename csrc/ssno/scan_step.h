// SPDX-License-Identifier: MIT
// One step of the selective scan and its adjoint; labels are those of the docstring of
// ssno_kernels.selective_scan.
#pragma once

#include "ssno/number.h"

namespace ssno::SSNO_ISA {

// (S3): h_t from a = exp(dt A), h_{t-1}, dt u and B
template <class T, bool X>
SSNO_INLINE Number<T, X> advance(const Number<T, X>& a, const Number<T, X>& h, Vec<T> dt_u,
                                 const Number<T, X>& B) {
    if constexpr (!X) {
        return {{a.part[0] * h.part[0] + dt_u * B.part[0]}};
    } else {
        return {{a.part[0] * h.part[0] + (dt_u * B.part[0] - a.part[1] * h.part[1]),
                 a.part[0] * h.part[1] + (dt_u * B.part[1] + a.part[1] * h.part[0])}};
    }
}

// (S6), (S8), (S9) at one step. On entry v_h is conj(a_{t+1}) v_h_{t+1}, on return conj(a_t) v_h_t.
template <class T, bool X>
struct StepCotangents {
    Number<T, X> v_state;  // v_h_t, whose product with dt u is v_B
    Number<T, X> w;        // the cotangent of dt A
    Vec<T> v_dt_u;         // this state's part
};
template <class T, bool X>
SSNO_INLINE StepCotangents<T, X> advance_vjp(const Number<T, X>& a, const Number<T, X>& h_before,
                                             Vec<T> v_y, const Number<T, X>& B,
                                             const Number<T, X>& C, Number<T, X>& v_h) {
    StepCotangents<T, X> r;
    r.v_state = observe_vjp(C, v_y) + v_h;
    r.v_dt_u = dot(B, r.v_state);
    v_h = conj_mul(a, r.v_state);
    r.w = conj_mul(h_before, v_h);
    return r;
}

}  // namespace ssno::SSNO_ISA
