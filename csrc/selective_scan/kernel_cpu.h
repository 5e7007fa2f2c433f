// SPDX-License-Identifier: MIT
// The entry points of one instruction set: the choice of compute type and of real or complex.
#pragma once

#include "selective_scan/backward.h"
#include "selective_scan/forward.h"

namespace ssno::SSNO_ISA {

void selective_scan_forward(const Params& p) {
    if (p.dtype == Dtype::f64)
        p.is_complex ? forward_as<double, true>(p) : forward_as<double, false>(p);
    else
        p.is_complex ? forward_as<float, true>(p) : forward_as<float, false>(p);
}

void selective_scan_backward(const Params& p) {
    if (p.dtype == Dtype::f64)
        p.is_complex ? backward_as<double, true>(p) : backward_as<double, false>(p);
    else
        p.is_complex ? backward_as<float, true>(p) : backward_as<float, false>(p);
}

}  // namespace ssno::SSNO_ISA
