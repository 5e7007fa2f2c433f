// SPDX-License-Identifier: MIT
// damped_conv_fwd_cpu and damped_conv_bwd_cpu: allocation, and what the kernels are told.
#include <torch/csrc/stable/library.h>

#include <tuple>
#include <vector>

#include "cpu_operator.h"
#include "damped_conv/tensors.h"
#include "ssno/isa.h"

namespace {

using namespace ssno;
using namespace ssno::damped_conv;

template <class T>
void read(const Tensor& t, std::vector<double>& to) {
    int64_t index[4] = {}, size[4] = {1, 1, 1, 1}, stride[4] = {};
    for (int64_t i = 0; i < t.dim(); ++i) size[i] = t.size(i), stride[i] = t.stride(i);
    const T* from = static_cast<const T*>(t.data_ptr());
    for (index[0] = 0; index[0] < size[0]; ++index[0])
        for (index[1] = 0; index[1] < size[1]; ++index[1])
            for (index[2] = 0; index[2] < size[2]; ++index[2])
                for (index[3] = 0; index[3] < size[3]; ++index[3])
                    to.push_back(from[index[0] * stride[0] + index[1] * stride[1] +
                                      index[2] * stride[2] + index[3] * stride[3]]);
}

// The values of a small tensor of parameters, in order and in double precision: its own if it has
// them so.
class Values {
  public:
    explicit Values(const Tensor& t) : values_(static_cast<const double*>(t.data_ptr())) {
        const bool is_double = t.scalar_type() == ScalarType::Double;
        if (is_double && t.is_contiguous()) return;
        copy_.reserve(t.numel());
        is_double ? read<double>(t, copy_) : read<float>(t, copy_);
        values_ = copy_.data();
    }
    Values(const Values&) = delete;
    Values& operator=(const Values&) = delete;
    const double* get() const { return values_; }

  private:
    const double* values_;
    std::vector<double> copy_;
};

// The cotangent of such a tensor, if it is wanted: computed in double precision, 0 until then
class Cotangent {
  public:
    Cotangent(bool wanted, const Tensor& like)
        : tensor_(empty(like, wanted ? sizes(like) : std::vector<int64_t>{0})) {
        if (!wanted) return;
        if (is_double())
            values_ = static_cast<double*>(tensor_.data_ptr());
        else
            copy_.resize(tensor_.numel()), values_ = copy_.data();
        std::fill_n(values_, tensor_.numel(), 0.0);
    }
    Cotangent(const Cotangent&) = delete;
    Cotangent& operator=(const Cotangent&) = delete;
    double* get() const { return values_; }
    Tensor tensor() const {
        if (values_ && !is_double())
            std::copy(copy_.begin(), copy_.end(), static_cast<float*>(tensor_.data_ptr()));
        return tensor_;
    }

  private:
    bool is_double() const { return tensor_.scalar_type() == ScalarType::Double; }
    Tensor tensor_;
    double* values_ = nullptr;
    std::vector<double> copy_;
};

void dispatch(const Params& p, bool forward) {
#if defined(__x86_64__)
    const ssno::Isa isa = ssno::cpu_isa();
    if (isa == ssno::kAvx512)
        return forward ? ssno::avx512::damped_conv_forward(p)
                       : ssno::avx512::damped_conv_backward(p);
    if (isa == ssno::kAvx2)
        return forward ? ssno::avx2::damped_conv_forward(p) : ssno::avx2::damped_conv_backward(p);
#endif
    return forward ? ssno::plain::damped_conv_forward(p) : ssno::plain::damped_conv_backward(p);
}

// The arguments that forward and backward have in common; holds the parameters' values.
struct Problem {
    Params p;
    Values rate, coeff;
    std::optional<Values> skip;

    Problem(const Tensor& u, const Tensor& rate_, const Tensor& coeff_, const MaybeTensor& D,
            const MaybeTensor& initial_state, int64_t direction, bool periodic, int64_t dim)
        : rate(rate_), coeff(coeff_) {
        if (D) skip.emplace(*D);
        describe(p, u, rate_, initial_state, periodic, dim);
        p.from_end[0] = direction == 1;
        p.from_end[1] = true;
        p.rate = rate.get();
        p.coeff = coeff.get();
        p.skip = skip ? skip->get() : nullptr;
        p.threads = static_cast<int>(torch::stable::get_num_threads());
        p.parallel = run_parallel;
    }
};

std::tuple<Tensor, Tensor> forward(Tensor u, Tensor rate, Tensor coeff, MaybeTensor D,
                                   MaybeTensor initial_state, int64_t direction, bool periodic,
                                   int64_t dim, bool want_state) {
    Problem problem(u, rate, coeff, D, initial_state, direction, periodic, dim);
    Tensor out = advised(torch::stable::empty_like(u));
    Tensor state = empty(coeff, want_state ? state_sizes(u, rate, dim) : std::vector<int64_t>{0});
    problem.p.out = activation(out, dim);
    if (want_state) problem.p.final_state = states(state);
    if (u.numel() > 0) dispatch(problem.p, true);
    return {out, state};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> backward(Tensor v_out, MaybeTensor v_final_state,
                                                            Tensor u, Tensor rate, Tensor coeff,
                                                            MaybeTensor D,
                                                            MaybeTensor initial_state,
                                                            int64_t direction, bool periodic,
                                                            int64_t dim, std::vector<bool> needs) {
    Problem problem(u, rate, coeff, D, initial_state, direction, periodic, dim);
    Params& p = problem.p;
    const bool start = needs[4] && initial_state;
    const Cotangent v_rate(needs[1], rate), v_coeff(needs[2], coeff),
        v_skip(needs[3] && D, D ? *D : coeff);
    Tensor v_u = needs[0] ? advised(torch::stable::empty_like(u)) : empty(u, {0});
    Tensor v_start = start ? torch::stable::empty_like(*initial_state) : empty(coeff, {0});
    p.v_out = activation(v_out, dim);
    p.v_final_state = states(v_final_state);
    if (needs[0]) p.v_u = activation(v_u, dim);
    if (start) p.v_initial_state = states(v_start);
    p.v_rate = v_rate.get();
    p.v_coeff = v_coeff.get();
    p.v_skip = v_skip.get();
    if (u.numel() > 0) dispatch(p, false);
    return {v_u, v_rate.tensor(), v_coeff.tensor(), v_skip.tensor(), v_start};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ssno_kernels, CPU, m) {
    m.impl("damped_conv_fwd_cpu", TORCH_BOX(&forward));
    m.impl("damped_conv_bwd_cpu", TORCH_BOX(&backward));
}
