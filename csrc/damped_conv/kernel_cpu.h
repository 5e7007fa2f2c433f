// SPDX-License-Identifier: MIT
// The entry points of one instruction set: the choice of compute type.
#pragma once

#if !defined(SSNO_AVX512) || SSNO_VECTOR_BYTES == 64  // half-width AVX-512 has no use here
#include "damped_conv/backward.h"

namespace ssno::SSNO_ISA {

void damped_conv_forward(const Params& p) {
    if (p.dtype == Dtype::f64)
        apply<double>(p, false, p.u, p.out);
    else
        apply<float>(p, false, p.u, p.out);
}

void damped_conv_backward(const Params& p) {
    if (p.dtype == Dtype::f64)
        differentiate<double>(p);
    else
        differentiate<float>(p);
}

}  // namespace ssno::SSNO_ISA
#endif
