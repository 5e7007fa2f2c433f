// SPDX-License-Identifier: MIT
// The entry points of one instruction set: the choice of compute type.
#pragma once

#if !defined(SSNO_AVX512) || SSNO_VECTOR_BYTES == 64  // half-width AVX-512 has no use here
#include "damped_conv/backward.h"
#include "damped_conv/fourier.h"

namespace ssno::SSNO_ISA {

template <class T>
void forward_as(const Params& p) {
    if (prefers_fourier<T>(p))
        apply_by_fourier<T>(p, false, p.u, p.out);
    else
        apply<T>(p, false, p.u, p.out);
}

template <class T>
void backward_as(const Params& p) {
    if (prefers_fourier<T>(p))
        differentiate_by_fourier<T>(p);
    else
        differentiate<T>(p);
}

void damped_conv_forward(const Params& p) {
    p.dtype == Dtype::f64 ? forward_as<double>(p) : forward_as<float>(p);
}

void damped_conv_backward(const Params& p) {
    p.dtype == Dtype::f64 ? backward_as<double>(p) : backward_as<float>(p);
}

}  // namespace ssno::SSNO_ISA
#endif
