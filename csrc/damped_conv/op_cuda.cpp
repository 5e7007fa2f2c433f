// SPDX-License-Identifier: MIT
// damped_conv_fwd_cuda and damped_conv_bwd_cuda: allocation, and what the kernels are told.
#include <deque>
#include <tuple>
#include <vector>

#include "cuda_operator.h"
#include "damped_conv/call_cuda.h"
#include "damped_conv/tensors.h"

namespace {

using namespace ssno;
using namespace ssno::damped_conv;

// The arguments that forward and backward have in common; holds what the kernels need as long as
// they are being launched.
class Arguments {
  public:
    Problem p;

    Arguments(const Tensor& u, const Tensor& rate, const Tensor& coeff, const MaybeTensor& D,
              const MaybeTensor& initial_state, int64_t direction, bool periodic, int64_t dim,
              bool tf32)
        : like_(u) {
        describe(p, u, rate, initial_state, periodic, dim);
        p.tf32 = tf32;
        p.forward = direction == 1 ? -1 : 0;
        p.backward = direction == 0 ? -1 : p.sweeps - 1;
        p.rate = static_cast<const double*>(kept(torch::stable::contiguous(rate)));
        p.coeff = kept(torch::stable::contiguous(coeff));
        p.skip = D ? D->data_ptr() : nullptr;
        p.skip_stride = D ? D->stride(0) : 0;
    }

    Allocate allocate() {
        return [this](int64_t bytes) { return kept(empty(like_, {bytes}, ScalarType::Byte)); };
    }

  private:
    void* kept(const Tensor& t) {
        kept_.push_back(t);
        return kept_.back().data_ptr();
    }

    Tensor like_;
    std::deque<Tensor> kept_;
};

std::tuple<Tensor, Tensor> forward(Tensor u, Tensor rate, Tensor coeff, MaybeTensor D,
                                   MaybeTensor initial_state, int64_t direction, bool periodic,
                                   int64_t dim, bool want_state, bool tf32) {
    const OnDevice device(u);
    Arguments a(u, rate, coeff, D, initial_state, direction, periodic, dim, tf32);
    Tensor out = torch::stable::empty_like(u);
    Tensor state = empty(coeff, want_state ? state_sizes(u, rate, dim) : std::vector<int64_t>{0});
    a.p.out = activation(out, dim);
    if (want_state) a.p.final_state = states(state);
    if (u.numel() > 0) forward_cuda(a.p, a.allocate(), device.stream());
    return {out, state};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> backward(
    Tensor v_out, MaybeTensor v_final_state, Tensor u, Tensor rate, Tensor coeff, MaybeTensor D,
    MaybeTensor initial_state, int64_t direction, bool periodic, int64_t dim,
    std::vector<bool> needs, bool tf32) {
    const OnDevice device(u);
    Arguments a(u, rate, coeff, D, initial_state, direction, periodic, dim, tf32);
    Problem& p = a.p;
    // Without a sample a sum has none, and no kernel runs.
    const auto sum_like = [&](bool wanted, const Tensor& like) {
        if (!wanted) return empty(like, {0});
        return u.numel() > 0 ? empty(like, sizes(like))
                             : torch::stable::new_zeros(like, sizes(like));
    };
    const bool start = needs[4] && initial_state;
    Tensor v_u = needs[0] ? torch::stable::empty_like(u) : empty(u, {0});
    Tensor v_start = start ? torch::stable::empty_like(*initial_state) : empty(coeff, {0});
    Tensor v_rate = sum_like(needs[1], rate), v_coeff = sum_like(needs[2], coeff);
    Tensor v_D = sum_like(needs[3] && D, D ? *D : coeff);
    p.v_out = activation(v_out, dim);
    p.v_final_state = states(v_final_state);
    if (needs[0]) p.v_u = activation(v_u, dim);
    if (start) p.v_initial_state = states(v_start);
    if (needs[1]) p.v_rate = v_rate.data_ptr();
    if (needs[2]) p.v_coeff = v_coeff.data_ptr();
    if (needs[3] && D) p.v_skip = v_D.data_ptr();
    if (u.numel() > 0) backward_cuda(p, a.allocate(), device.stream());
    return {v_u, v_rate, v_coeff, v_D, v_start};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ssno_kernels, SSNO_CUDA_KEY, m) {
    m.impl("damped_conv_fwd_cuda", TORCH_BOX(&forward));
    m.impl("damped_conv_bwd_cuda", TORCH_BOX(&backward));
}
