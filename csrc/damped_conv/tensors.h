// SPDX-License-Identifier: MIT
// What the tensors of damped_conv are to the kernels of every backend. Shapes and dtypes were
// checked in Python (ops/damped_conv/arguments.py).
#pragma once

#include "damped_conv/params.h"
#include "operator.h"

namespace ssno::damped_conv {

// (B, H, *grid) swept along `dim`
inline Array activation(const Tensor& t, int64_t dim) {
    Array a;
    a.p = t.data_ptr();
    a.channel = t.stride(1);
    a.step = t.stride(dim);
    int i = 0;
    for (int64_t axis = 0; axis < t.dim(); ++axis)
        if (axis != 1 && axis != dim) a.row[i++] = t.stride(axis);
    return a;
}

// (S, B, H, *others, N, 2)
inline Array states(const MaybeTensor& t) {
    Array a;
    if (!t) return a;
    a.p = t->data_ptr();
    a.sweep = t->stride(0);
    a.channel = t->stride(2);
    a.step = t->stride(t->dim() - 2);
    a.part = t->stride(t->dim() - 1);
    int i = 0;
    for (int64_t axis = 1; axis < t->dim() - 2; ++axis)
        if (axis != 2) a.row[i++] = t->stride(axis);
    return a;
}

inline void describe(Convolution& p, const Tensor& u, const Tensor& rate,
                     const MaybeTensor& initial_state, bool periodic, int64_t dim) {
    STD_TORCH_CHECK(u.dim() <= MAX_AXES + 2, "u has too many axes for damped_conv");
    p.dtype = dtype_of(u);
    p.sweeps = static_cast<int>(rate.size(0));
    p.periodic = periodic;
    p.channels = u.size(1);
    p.length = u.size(dim);
    p.modes = rate.size(2);
    p.rows = 1;
    for (int64_t axis = 0; axis < u.dim(); ++axis)
        if (axis != 1 && axis != dim) {
            p.size[p.axes++] = u.size(axis);
            p.rows *= u.size(axis);
        }
    p.u = activation(u, dim);
    p.initial_state = states(initial_state);
}

inline std::vector<int64_t> sizes(const Tensor& t) {
    std::vector<int64_t> sizes;
    for (int64_t i = 0; i < t.dim(); ++i) sizes.push_back(t.size(i));
    return sizes;
}

inline std::vector<int64_t> state_sizes(const Tensor& u, const Tensor& rate, int64_t dim) {
    std::vector<int64_t> sizes{rate.size(0)};
    for (int64_t axis = 0; axis < u.dim(); ++axis)
        if (axis != dim) sizes.push_back(u.size(axis));
    sizes.push_back(rate.size(2));
    sizes.push_back(2);
    return sizes;
}

}  // namespace ssno::damped_conv
