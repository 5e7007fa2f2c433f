// SPDX-License-Identifier: MIT
// The selective scan's tensors as its kernels are told of them, and what its operators allocate,
// whatever the device. Shapes and dtypes were checked in Python (ops/selective_scan/arguments.py).
#pragma once

#include <tuple>

#include "operator.h"
#include "selective_scan/params.h"

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

inline int64_t checkpoint_rows(const Params& p) {
    return ((p.length + p.interval - 1) / p.interval - 1) * p.states * (p.is_complex ? 2 : 1);
}

// Those of `sweeps` like this one, and two rows of zeros: see ops/selective_scan/function.py
inline Tensor new_checkpoints(const Params& p, const Tensor& A, int64_t sweeps) {
    if (p.interval == 0) return empty(A, {0});
    const int64_t rows = sweeps * checkpoint_rows(p);
    Tensor checkpoints = empty(A, {p.batch, rows + 2, p.channels});
    Tensor rest = torch::stable::narrow(checkpoints, 1, rows, 2);
    torch::stable::zero_(rest);
    return checkpoints;
}

// The checkpoints of sweep k
inline void take_checkpoints(Params& p, const Tensor& checkpoints, int64_t k) {
    if (checkpoints.numel() == 0) return;
    const int64_t offset = k * checkpoint_rows(p) * p.channels;
    p.checkpoints =
        static_cast<char*>(checkpoints.data_ptr()) + offset * element_size(dtype_of(checkpoints));
    p.checkpoints_stride = checkpoints.stride(0);
}

// A view of a tensor whose time axis `axis` runs in the order of the sweep
struct View {
    const Tensor& t;
    char* p;
    View(const Tensor& tensor, int64_t axis, bool reverse, Dtype dtype)
        : t(tensor), p(static_cast<char*>(tensor.data_ptr())) {
        if (reverse && t.numel() > 0)
            p += (t.size(axis) - 1) * t.stride(axis) * element_size(dtype);
    }
};

inline Activation activation(const Tensor& t, bool reverse, Dtype dtype) {
    return {View(t, 2, reverse, dtype).p,
            t.stride(0),
            t.stride(1),
            {reverse ? -t.stride(2) : t.stride(2)},
            dtype};
}
inline Activation activation(const MaybeTensor& t, bool reverse, Dtype dtype) {
    return t ? activation(*t, reverse, dtype) : Activation{};
}

inline Projection projection(const Tensor& t, bool is_complex, bool reverse, Dtype dtype) {
    Projection m;
    m.constant = t.dim() <= 3;
    const int64_t n = m.constant ? 1 : 2;
    m.p = m.constant ? t.data_ptr() : View(t, 3, reverse, dtype).p;
    m.g = t.stride(n - 1);
    m.n = t.stride(n);
    m.c = is_complex ? t.stride(t.dim() - 1) : 0;
    if (!m.constant) {
        m.b = t.stride(0);
        m.groups = t.size(1);
        m.path.t = reverse ? -t.stride(3) : t.stride(3);
    }
    return m;
}

inline Params inputs(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                     const Tensor& C, const MaybeTensor& D, const MaybeTensor& z,
                     const MaybeTensor& delta_bias, const MaybeTensor& delta_weight,
                     const MaybeTensor& initial_state, bool delta_softplus, bool reverse) {
    Params p;
    p.dtype = dtype_of(u);
    p.is_complex = A.dim() == 3;
    p.delta_softplus = delta_softplus;
    p.batch = u.size(0);
    p.channels = u.size(1);
    p.length = u.size(2);
    p.states = A.size(1);
    p.rank = delta_weight ? delta_weight->size(1) : 0;
    p.u = activation(u, reverse, p.dtype);
    p.delta = activation(delta, reverse, p.dtype);
    p.z = activation(z, reverse, p.dtype);
    p.A = states(A, p.is_complex);
    p.B = projection(B, p.is_complex, reverse, p.dtype);
    p.C = projection(C, p.is_complex, reverse, p.dtype);
    p.D = vector(D);
    p.delta_bias = vector(delta_bias);
    p.delta_weight = weight(delta_weight);
    p.initial_state = states(initial_state, p.is_complex);
    return p;
}

// Backend: fresh(tensor) may prepare a large new tensor; run(params, forward, like) runs a sweep
// where the tensor `like` is.
template <class Backend>
std::tuple<Tensor, Tensor, Tensor> forward(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C,
                                           MaybeTensor D, MaybeTensor z, MaybeTensor delta_bias,
                                           MaybeTensor delta_weight, MaybeTensor initial_state,
                                           bool delta_softplus, bool reverse, bool want_state,
                                           int64_t interval) {
    Params p = inputs(u, delta, A, B, C, D, z, delta_bias, delta_weight, initial_state,
                      delta_softplus, reverse);
    Tensor out = Backend::fresh(torch::stable::empty_like(u));
    std::vector<int64_t> state_sizes{p.batch};
    for (int64_t i = 0; i < A.dim(); ++i) state_sizes.push_back(A.size(i));
    Tensor state = want_state ? empty(A, state_sizes) : empty(A, {0});
    p.interval = interval;
    const Tensor checkpoints = new_checkpoints(p, A, 1);
    p.out = activation(out, reverse, p.dtype);
    if (want_state) p.final_state = states(state, p.is_complex);
    take_checkpoints(p, checkpoints, 0);
    Backend::run(p, true, u);
    return {out, state, checkpoints};
}

using TenTensors =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class Backend>
TenTensors backward(Tensor v_out, MaybeTensor v_final_state, Tensor checkpoints, Tensor u,
                    Tensor delta, Tensor A, Tensor B, Tensor C, MaybeTensor D, MaybeTensor z,
                    MaybeTensor delta_bias, MaybeTensor delta_weight, MaybeTensor initial_state,
                    bool delta_softplus, bool reverse, int64_t interval, std::vector<bool> needs) {
    Params p = inputs(u, delta, A, B, C, D, z, delta_bias, delta_weight, initial_state,
                      delta_softplus, reverse);
    p.interval = interval;
    take_checkpoints(p, checkpoints, 0);

    const MaybeTensor given[10] = {
        u, delta, A, B, C, D, z, delta_bias, delta_weight, initial_state};
    Tensor v[10];
    MaybeTensor wanted[10];
    for (int i = 0; i < 10; ++i) {
        const bool make = needs[i] && given[i];
        v[i] = make ? Backend::fresh(torch::stable::empty_like(*given[i])) : empty(u, {0});
        if (make) wanted[i] = v[i];
    }
    Cotangents& g = p.grad;
    g.v_out = activation(v_out, reverse, p.dtype);
    g.v_final_state = states(v_final_state, p.is_complex);
    g.v_u = activation(wanted[0], reverse, p.dtype);
    g.v_delta = activation(wanted[1], reverse, p.dtype);
    g.v_A = states(wanted[2], p.is_complex);
    g.v_B = wanted[3] ? projection(v[3], p.is_complex, reverse, p.dtype) : Projection{};
    g.v_C = wanted[4] ? projection(v[4], p.is_complex, reverse, p.dtype) : Projection{};
    g.v_D = vector(wanted[5]);
    g.v_z = activation(wanted[6], reverse, p.dtype);
    g.v_delta_bias = vector(wanted[7]);
    g.v_delta_weight = weight(wanted[8]);
    g.v_initial_state = states(wanted[9], p.is_complex);
    Backend::run(p, false, u);
    return {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9]};
}

}  // namespace ssno::selective_scan
