// SPDX-License-Identifier: MIT
// alias_free_activation_fwd_cuda and alias_free_activation_bwd_cuda.
#include <tuple>
#include <vector>

#include "alias_free_activation/kernel_cuda.h"
#include "alias_free_activation/tensors.h"
#include "cuda_operator.h"

namespace {

using namespace ssno;
using namespace ssno::alias_free_activation;

Tensor forward(Tensor x, Tensor up_filter, Tensor down_filter, MaybeTensor bias, int64_t up,
               int64_t down, std::vector<int64_t> padding, int64_t activation,
               double negative_slope, double gain) {
    const OnDevice device(x);
    Params p = inputs(x, up_filter, down_filter, bias, up, down, padding, activation,
                      negative_slope, gain);
    Tensor out = output(x, p);
    p.out = field(out);
    if (out.numel() > 0) forward_cuda(p, device.stream());
    return out;
}

std::tuple<Tensor, Tensor> backward(Tensor v_out, Tensor x, Tensor up_filter, Tensor down_filter,
                                    MaybeTensor bias, int64_t up, int64_t down,
                                    std::vector<int64_t> padding, int64_t activation,
                                    double negative_slope, double gain, std::vector<bool> needs) {
    const OnDevice device(x);
    Params p = inputs(x, up_filter, down_filter, bias, up, down, padding, activation,
                      negative_slope, gain);
    Tensor v_x = needs[0] ? torch::stable::empty_like(x) : empty(x, {0});
    Tensor v_bias = needs[1] ? empty(up_filter, {p.channels}) : empty(x, {0});
    p.v_out = field(v_out);
    if (needs[0]) p.v_x = field(v_x);
    if (needs[1]) p.v_bias = v_bias.data_ptr();
    Tensor scratch;
    const auto allocate = [&](int64_t count) {
        scratch = empty(up_filter, {count});
        return scratch.data_ptr();
    };
    backward_cuda(p, allocate, device.stream());
    return {v_x, v_bias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ssno_kernels, SSNO_CUDA_KEY, m) {
    m.impl("alias_free_activation_fwd_cuda", TORCH_BOX(&forward));
    m.impl("alias_free_activation_bwd_cuda", TORCH_BOX(&backward));
}
