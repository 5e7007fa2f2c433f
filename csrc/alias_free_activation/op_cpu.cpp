// SPDX-License-Identifier: MIT
// alias_free_activation_fwd_cpu and alias_free_activation_bwd_cpu: allocation, and what the kernels
// are told. Shapes and dtypes were checked in Python (ops/alias_free_activation/arguments.py).
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <numeric>
#include <tuple>
#include <vector>

#include "alias_free_activation/params.h"
#include "cpu_operator.h"
#include "ssno/isa.h"

namespace {

using namespace ssno;
using namespace ssno::alias_free_activation;

Field field(const Tensor& t) {
    Field f{t.data_ptr(), t.stride(0), t.stride(1), {}};
    for (int64_t a = 2; a < t.dim(); ++a) f.g[AXES - t.dim() + a] = t.stride(a);
    return f;
}
Vector vector(const Tensor& t) { return {t.data_ptr(), t.size(0), t.stride(0)}; }

void dispatch(const Params& p, bool forward) {
#if defined(__x86_64__)
    const ssno::Isa isa = ssno::cpu_isa();
    if (isa == ssno::kAvx512)
        return forward ? ssno::avx512::alias_free_activation_forward(p)
                       : ssno::avx512::alias_free_activation_backward(p);
    if (isa == ssno::kAvx2)
        return forward ? ssno::avx2::alias_free_activation_forward(p)
                       : ssno::avx2::alias_free_activation_backward(p);
#endif
    return forward ? ssno::plain::alias_free_activation_forward(p)
                   : ssno::plain::alias_free_activation_backward(p);
}

// As arguments.empty_output: x's order of axes in memory where x is dense.
Tensor empty_output(const Tensor& x, std::vector<int64_t> sizes) {
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

Params inputs(const Tensor& x, const Tensor& up_filter, const Tensor& down_filter,
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
    p.threads = static_cast<int>(torch::stable::get_num_threads());
    p.parallel = run_parallel;
    return p;
}

Tensor forward(Tensor x, Tensor up_filter, Tensor down_filter, MaybeTensor bias, int64_t up,
               int64_t down, std::vector<int64_t> padding, int64_t activation,
               double negative_slope, double gain) {
    Params p = inputs(x, up_filter, down_filter, bias, up, down, padding, activation,
                      negative_slope, gain);
    std::vector<int64_t> sizes{x.size(0), x.size(1)};
    for (int64_t a = AXES - x.dim() + 2; a < AXES; ++a) sizes.push_back(p.m[a]);
    Tensor out = empty_output(x, sizes);
    p.out = field(out);
    dispatch(p, true);
    return out;
}

std::tuple<Tensor, Tensor> backward(Tensor v_out, Tensor x, Tensor up_filter, Tensor down_filter,
                                    MaybeTensor bias, int64_t up, int64_t down,
                                    std::vector<int64_t> padding, int64_t activation,
                                    double negative_slope, double gain, std::vector<bool> needs) {
    Params p = inputs(x, up_filter, down_filter, bias, up, down, padding, activation,
                      negative_slope, gain);
    Tensor v_x = needs[0] ? torch::stable::empty_like(x) : torch::stable::new_empty(x, {0});
    Tensor v_bias = needs[1] ? torch::stable::new_empty(up_filter, {p.channels})
                             : torch::stable::new_empty(x, {0});
    p.v_out = field(v_out);
    if (needs[0]) p.v_x = field(v_x);
    if (needs[1]) p.v_bias = v_bias.data_ptr();
    dispatch(p, false);
    return {v_x, v_bias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ssno_kernels, CPU, m) {
    m.impl("alias_free_activation_fwd_cpu", TORCH_BOX(&forward));
    m.impl("alias_free_activation_bwd_cpu", TORCH_BOX(&backward));
}
