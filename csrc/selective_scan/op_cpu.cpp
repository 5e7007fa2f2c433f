// SPDX-License-Identifier: MIT
// selective_scan_fwd_cpu and selective_scan_bwd_cpu: allocation, and what the kernels are told.
// Shapes and dtypes were checked in Python (ops/selective_scan/arguments.py) before this is called.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <numeric>
#include <optional>
#include <tuple>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "selective_scan/params.h"
#include "ssno/isa.h"

namespace {

using namespace ssno::selective_scan;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;

Dtype dtype_of(const Tensor& t) {
    switch (t.scalar_type()) {
        case ScalarType::Double:
            return Dtype::f64;
        case ScalarType::Float:
            return Dtype::f32;
        case ScalarType::BFloat16:
            return Dtype::bf16;
        case ScalarType::Half:
            return Dtype::f16;
        default:
            STD_TORCH_CHECK(false, "u has a dtype that selective_scan does not serve");
    }
    return Dtype::f32;
}

int64_t element_size(Dtype dtype) { return dtype == Dtype::f64 ? 8 : dtype == Dtype::f32 ? 4 : 2; }

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

Activation activation(const Tensor& t, bool reverse, Dtype dtype) {
    return {View(t, 2, reverse, dtype).p, t.stride(0), t.stride(1),
            reverse ? -t.stride(2) : t.stride(2)};
}
Activation activation(const MaybeTensor& t, bool reverse, Dtype dtype) {
    return t ? activation(*t, reverse, dtype) : Activation{};
}

Projection projection(const Tensor& t, bool is_complex, bool reverse, Dtype dtype) {
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
        m.t = reverse ? -t.stride(3) : t.stride(3);
    }
    return m;
}

States states(const Tensor& t, bool is_complex) {  // (D, N[, 2]) or (B, D, N[, 2])
    const int64_t d = t.dim() - (is_complex ? 3 : 2);
    return {t.data_ptr(), d ? t.stride(0) : 0, t.stride(d), t.stride(d + 1),
            is_complex ? t.stride(d + 2) : 0};
}
States states(const MaybeTensor& t, bool is_complex) {
    return t ? states(*t, is_complex) : States{};
}

Vector vector(const MaybeTensor& t) { return t ? Vector{t->data_ptr(), t->stride(0)} : Vector{}; }

Weight weight(const MaybeTensor& t) {
    return t ? Weight{t->data_ptr(), t->stride(0), t->stride(1)} : Weight{};
}

void run_parallel(int64_t count, const void* context, void (*body)(const void*, int64_t)) {
    torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) body(context, i);
    });
}

// Many channels on one B and C fill the widest vectors; from 5 to 8 of them fill half of those.
void dispatch(const Params& p, bool forward) {
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

Params inputs(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
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
    p.threads = static_cast<int>(torch::stable::get_num_threads());
    p.parallel = run_parallel;
    return p;
}

// Ask for huge pages behind a large new tensor: first touching it page by page would cost as much
// as a third of the sweep that fills it. A hint; where it is refused nothing changes.
Tensor advised(Tensor t) {
#if defined(__linux__)
    constexpr uintptr_t HUGE = uintptr_t(2) << 20;
    const auto begin = reinterpret_cast<uintptr_t>(t.data_ptr());
    const uintptr_t end = begin + static_cast<uintptr_t>(t.numel()) * element_size(dtype_of(t));
    const uintptr_t first = (begin + HUGE - 1) / HUGE * HUGE, last = end / HUGE * HUGE;
    if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
    return t;
}

Tensor empty(const Tensor& like, std::vector<int64_t> sizes) {
    return torch::stable::new_empty(like, sizes);
}

std::tuple<Tensor, Tensor, Tensor> forward(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C,
                                           MaybeTensor D, MaybeTensor z, MaybeTensor delta_bias,
                                           MaybeTensor delta_weight, MaybeTensor initial_state,
                                           bool delta_softplus, bool reverse, bool want_state,
                                           int64_t interval) {
    Params p = inputs(u, delta, A, B, C, D, z, delta_bias, delta_weight, initial_state,
                      delta_softplus, reverse);
    Tensor out = advised(torch::stable::empty_like(u));
    std::vector<int64_t> state_sizes{p.batch};
    for (int64_t i = 0; i < A.dim(); ++i) state_sizes.push_back(A.size(i));
    Tensor state = want_state ? empty(A, state_sizes) : empty(A, {0});
    Tensor checkpoints = empty(A, {0});
    if (interval > 0)
        checkpoints = empty(A, {p.batch, (p.length + interval - 1) / interval - 1,
                                p.states * (p.is_complex ? 2 : 1), p.channels});
    p.out = activation(out, reverse, p.dtype);
    if (want_state) p.final_state = states(state, p.is_complex);
    p.interval = interval;
    if (checkpoints.numel() > 0) p.checkpoints = checkpoints.data_ptr();
    dispatch(p, true);
    return {out, state, checkpoints};
}

using TenTensors =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

TenTensors backward(Tensor v_out, MaybeTensor v_final_state, Tensor checkpoints, Tensor u,
                    Tensor delta, Tensor A, Tensor B, Tensor C, MaybeTensor D, MaybeTensor z,
                    MaybeTensor delta_bias, MaybeTensor delta_weight, MaybeTensor initial_state,
                    bool delta_softplus, bool reverse, int64_t interval, std::vector<bool> needs) {
    Params p = inputs(u, delta, A, B, C, D, z, delta_bias, delta_weight, initial_state,
                      delta_softplus, reverse);
    p.interval = interval;
    if (checkpoints.numel() > 0) p.checkpoints = checkpoints.data_ptr();

    const MaybeTensor given[10] = {
        u, delta, A, B, C, D, z, delta_bias, delta_weight, initial_state};
    Tensor v[10];
    MaybeTensor wanted[10];
    for (int i = 0; i < 10; ++i) {
        const bool make = needs[i] && given[i];
        v[i] = make ? advised(torch::stable::empty_like(*given[i])) : empty(u, {0});
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
    dispatch(p, false);
    return {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9]};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ssno_kernels, CPU, m) {
    m.impl("selective_scan_fwd_cpu", TORCH_BOX(&forward));
    m.impl("selective_scan_bwd_cpu", TORCH_BOX(&backward));
}
