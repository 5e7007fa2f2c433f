// SPDX-License-Identifier: MIT
// How the operators that run the scan's CPU kernels call them: the choice of an instruction set.
#pragma once

#include <numeric>

#include "cpu_operator.h"
#include "selective_scan/tensors.h"
#include "ssno/isa.h"

namespace ssno::selective_scan {

// Many channels on one B and C fill the widest vectors; from 5 to 8 of them fill half of those.
inline void dispatch(const Params& p, bool forward) {
#if defined(__x86_64__)
    const ssno::Isa isa = ssno::cpu_isa();
    if (isa == ssno::kAvx512) {
        const int64_t lanes = p.dtype == Dtype::f64 ? 8 : 16;
        const auto channels = [&](const Projection& M) {
            return M.constant ? p.channels : p.channels / M.groups;
        };
        const int64_t run = std::gcd(channels(p.B), channels(p.C));
        if (4 * run > lanes && 2 * run <= lanes)
            return forward ? ssno::avx512vl::selective_scan_forward(p)
                           : ssno::avx512vl::selective_scan_backward(p);
        return forward ? ssno::avx512::selective_scan_forward(p)
                       : ssno::avx512::selective_scan_backward(p);
    }
    if (isa == ssno::kAvx2)
        return forward ? ssno::avx2::selective_scan_forward(p)
                       : ssno::avx2::selective_scan_backward(p);
#endif
    return forward ? ssno::plain::selective_scan_forward(p)
                   : ssno::plain::selective_scan_backward(p);
}

}  // namespace ssno::selective_scan
