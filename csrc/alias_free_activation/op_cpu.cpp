// SPDX-License-Identifier: MIT
// alias_free_activation_fwd_cpu and alias_free_activation_bwd_cpu.
#include <torch/csrc/stable/library.h>

#include <tuple>
#include <vector>

#include "alias_free_activation/tensors.h"
#include "cpu_operator.h"
#include "ssno/isa.h"

namespace {

using namespace ssno;
using namespace ssno::alias_free_activation;

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

Params threaded(Params p) {
    p.threads = static_cast<int>(torch::stable::get_num_threads());
    p.parallel = run_parallel;
    return p;
}

Tensor forward(Tensor x, Tensor up_filter, Tensor down_filter, MaybeTensor bias, int64_t up,
               int64_t down, std::vector<int64_t> padding, int64_t activation,
               double negative_slope, double gain) {
    Params p = threaded(inputs(x, up_filter, down_filter, bias, up, down, padding, activation,
                               negative_slope, gain));
    Tensor out = output(x, p);
    p.out = field(out);
    dispatch(p, true);
    return out;
}

std::tuple<Tensor, Tensor> backward(Tensor v_out, Tensor x, Tensor up_filter, Tensor down_filter,
                                    MaybeTensor bias, int64_t up, int64_t down,
                                    std::vector<int64_t> padding, int64_t activation,
                                    double negative_slope, double gain, std::vector<bool> needs) {
    Params p = threaded(inputs(x, up_filter, down_filter, bias, up, down, padding, activation,
                               negative_slope, gain));
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
