// SPDX-License-Identifier: MIT
// The alias-free activation's tensors as its kernels are told of them, whatever the device. Shapes
// and dtypes were checked in Python (ops/alias_free_activation/arguments.py).
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "alias_free_activation/params.h"
#include "operator.h"

namespace ssno::alias_free_activation {

inline Field field(const Tensor& t) {
    Field f{t.data_ptr(), t.stride(0), t.stride(1), {}};
    for (int64_t a = 2; a < t.dim(); ++a) f.g[AXES - t.dim() + a] = t.stride(a);
    return f;
}
inline Vector vector(const Tensor& t) { return {t.data_ptr(), t.size(0), t.stride(0)}; }

// As arguments.empty_output: x's order of axes in memory where x is dense.
inline Tensor empty_output(const Tensor& x, std::vector<int64_t> sizes) {
    const int64_t dim = x.dim();
    std::vector<int64_t> order(dim);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return x.stride(a) > x.stride(b); });
    int64_t expected = 1;
    bool dense = true;
    for (int64_t i = dim - 1; i >= 0; --i) {
        if (x.size(order[i]) == 1) continue;
        dense &= x.stride(order[i]) == expected;
        expected *= std::max<int64_t>(x.size(order[i]), 1);
    }
    if (!dense) return torch::stable::new_empty(x, sizes);
    std::vector<int64_t> in_memory(dim);
    for (int64_t i = 0; i < dim; ++i) in_memory[i] = sizes[order[i]];
    Tensor t = torch::stable::new_empty(x, in_memory);
    for (int64_t i = 0; i < dim; ++i)  // bring axis i to where it belongs
        while (order[i] != i) {
            t = torch::stable::transpose(t, i, order[i]);
            std::swap(order[i], order[order[i]]);
        }
    return t;
}

inline Params inputs(const Tensor& x, const Tensor& up_filter, const Tensor& down_filter,
                     const MaybeTensor& bias, int64_t up, int64_t down,
                     const std::vector<int64_t>& padding, int64_t activation, double negative_slope,
                     double gain) {
    Params p;
    p.dtype = dtype_of(x);
    p.act = static_cast<Act>(activation);
    p.batch = x.size(0);
    p.channels = x.size(1);
    p.up = up;
    p.down = down;
    p.up_filter = vector(up_filter);
    p.down_filter = vector(down_filter);
    if (bias) p.bias = vector(*bias);
    p.negative_slope = negative_slope;
    p.gain = gain;
    p.x = field(x);
    for (int64_t i = 0; i < x.dim() - 2; ++i) {
        const int64_t a = AXES - x.dim() + 2 + i, low = padding[2 * i], high = padding[2 * i + 1];
        p.filtered[a] = true;
        p.n[a] = x.size(2 + i);
        p.low[a] = low;
        p.m[a] =
            (p.n[a] * up + low + high - up_filter.size(0) - down_filter.size(0) + 1) / down + 1;
    }
    return p;
}

// Of the right sizes, not yet written.
inline Tensor output(const Tensor& x, const Params& p) {
    std::vector<int64_t> sizes{x.size(0), x.size(1)};
    for (int64_t a = AXES - x.dim() + 2; a < AXES; ++a) sizes.push_back(p.m[a]);
    return empty_output(x, sizes);
}

}  // namespace ssno::alias_free_activation
