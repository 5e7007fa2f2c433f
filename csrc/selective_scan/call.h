// SPDX-License-Identifier: MIT
// What the operators that run the scan's kernels share on PyTorch's side: tensors as the kernels'
// plain structs, the choice of an instruction set.
#pragma once

#include <numeric>

#include "cpu_operator.h"
#include "selective_scan/params.h"
#include "ssno/isa.h"

namespace ssno::selective_scan {

inline States states(const Tensor& t, bool is_complex) {  // (D, N[, 2]) or (B, D, N[, 2])
    const int64_t d = t.dim() - (is_complex ? 3 : 2);
    return {t.data_ptr(), d ? t.stride(0) : 0, t.stride(d), t.stride(d + 1),
            is_complex ? t.stride(d + 2) : 0};
}
inline States states(const MaybeTensor& t, bool is_complex) {
    return t ? states(*t, is_complex) : States{};
}

inline Vector vector(const MaybeTensor& t) {
    return t ? Vector{t->data_ptr(), t->stride(0)} : Vector{};
}

inline Weight weight(const MaybeTensor& t) {
    return t ? Weight{t->data_ptr(), t->stride(0), t->stride(1)} : Weight{};
}

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

// The checkpoints of one sweep of (B, ..., slots, N', D), `offset` elements into each batch entry's
inline void take_checkpoints(Params& p, const Tensor& checkpoints, int64_t offset) {
    if (checkpoints.numel() == 0) return;
    p.checkpoints =
        static_cast<char*>(checkpoints.data_ptr()) + offset * element_size(dtype_of(checkpoints));
    p.checkpoints_stride = checkpoints.stride(0);
}

}  // namespace ssno::selective_scan
