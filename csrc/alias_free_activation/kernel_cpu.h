// SPDX-License-Identifier: MIT
// The entry points of one instruction set.
#pragma once

#include "alias_free_activation/sweep.h"

namespace ssno::SSNO_ISA {

void alias_free_activation_forward(const alias_free_activation::Params& p) {
    if (p.dtype == Dtype::f64)
        alias_free::run_as<double>(p, false);
    else
        alias_free::run_as<float>(p, false);
}

void alias_free_activation_backward(const alias_free_activation::Params& p) {
    if (p.dtype == Dtype::f64)
        alias_free::run_as<double>(p, true);
    else
        alias_free::run_as<float>(p, true);
}

}  // namespace ssno::SSNO_ISA
