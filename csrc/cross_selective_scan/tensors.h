// SPDX-License-Identifier: MIT
// One sweep of the selective scan's kernels for each traversal, each adding to what those before it
// gave, whatever the device. A traversal is a path through tensors in the natural order of the
// grid. Shapes and dtypes were checked in Python (ops/cross_selective_scan/arguments.py).
#pragma once

#include <algorithm>
#include <numeric>
#include <tuple>
#include <vector>

#include "selective_scan/tensors.h"

namespace ssno::cross_selective_scan {

using namespace ssno::selective_scan;

struct Traversal {
    std::vector<int64_t> axes;  // the slowest first
    bool reverse;
};

inline std::vector<Traversal> traversals_of(const std::vector<int64_t>& numbers, int64_t axes) {
    std::vector<Traversal> traversals;
    for (size_t i = 0; i < numbers.size(); i += axes + 1) {
        const auto from = numbers.begin() + static_cast<std::ptrdiff_t>(i);
        traversals.push_back({{from, from + axes}, from[axes] != 0});
    }
    return traversals;
}

// A tensor seen along one traversal: where the first step lies, and the way from there
struct Way {
    char* p;
    Path path;
};

// The axes of the grid follow `leading` others; `index` picks one traversal's part along axis 1.
inline Way way(const Tensor& t, const Traversal& traversal, int64_t leading, int64_t index) {
    struct Counter {
        int64_t size, stride;
    };
    std::vector<Counter> counters;  // the slowest first, neighbours merged where they can be
    for (const int64_t axis : traversal.axes) {
        const Counter next{t.size(leading + axis), t.stride(leading + axis)};
        if (next.size == 1) continue;
        if (!counters.empty() && counters.back().stride == next.size * next.stride)
            counters.back() = {counters.back().size * next.size, next.stride};
        else
            counters.push_back(next);
    }
    int64_t first = index * t.stride(1);
    if (traversal.reverse)
        for (Counter& c : counters) {
            first += (c.size - 1) * c.stride;
            c.stride = -c.stride;
        }
    Path path;
    const size_t count = counters.size();
    if (count > 0) path.t = counters[count - 1].stride;
    if (count > 1) {
        path.inner = counters[count - 1].size;
        path.t1 = counters[count - 2].stride;
    }
    if (count > 2) {
        path.middle = counters[count - 2].size;
        path.t2 = counters[0].stride;
    }
    return {static_cast<char*>(t.data_ptr()) + first * element_size(dtype_of(t)), path};
}

// x, out and their cotangents: (B, D, *grid), or (B, K, D, *grid) of which k is meant
inline Activation shared(const Tensor& t, const Traversal& traversal) {
    const Way w = way(t, traversal, 2, 0);
    return {w.p, t.stride(0), t.stride(1), w.path, dtype_of(t)};
}
inline Activation own(const Tensor& t, const Traversal& traversal, int64_t k) {
    const Way w = way(t, traversal, 3, k);
    return {w.p, t.stride(0), t.stride(2), w.path, dtype_of(t)};
}
inline Projection projection(const Tensor& t, const Traversal& traversal, int64_t k) {
    const Way w = way(t, traversal, 3, k);
    return {w.p, false, 1, t.stride(0), 0, t.stride(2), 0, w.path};
}
// Entry k of a parameter (K, D) or (K, D, N)
inline void* entry(const Tensor& t, int64_t k) {
    return static_cast<char*>(t.data_ptr()) + k * t.stride(0) * element_size(dtype_of(t));
}
inline States states_of(const Tensor& t, int64_t k) {
    return {entry(t, k), 0, t.stride(1), t.stride(2), 0};
}
inline Vector vector_of(const MaybeTensor& t, int64_t k) {
    return t ? Vector{entry(*t, k), t->stride(1)} : Vector{};
}
inline Weight weight_of(const MaybeTensor& t, int64_t k) {
    return t ? Weight{entry(*t, k), t->stride(1), t->stride(2)} : Weight{};
}

struct Inputs {
    Tensor x, delta, A, B, C;
    MaybeTensor D, delta_bias, delta_weight;
    bool delta_softplus;
    std::vector<Traversal> traversals;
    bool stack;

    int64_t count() const { return static_cast<int64_t>(traversals.size()); }

    Params sweep(int64_t k) const {
        const Traversal& traversal = traversals[k];
        Params p;
        p.dtype = dtype_of(x);
        p.delta_softplus = delta_softplus;
        p.batch = x.size(0);
        p.channels = x.size(1);
        p.length = 1;
        for (int64_t axis = 2; axis < x.dim(); ++axis) p.length *= x.size(axis);
        p.states = A.size(2);
        p.rank = delta_weight ? delta_weight->size(2) : 0;
        p.u = shared(x, traversal);
        p.delta = own(delta, traversal, k);
        p.A = states_of(A, k);
        p.B = projection(B, traversal, k);
        p.C = projection(C, traversal, k);
        p.D = vector_of(D, k);
        p.delta_bias = vector_of(delta_bias, k);
        p.delta_weight = weight_of(delta_weight, k);
        return p;
    }
};

inline Inputs inputs(Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, MaybeTensor D,
                     MaybeTensor delta_bias, MaybeTensor delta_weight, bool delta_softplus,
                     const std::vector<int64_t>& traversals, bool stack) {
    return {x,
            delta,
            A,
            B,
            C,
            D,
            delta_bias,
            delta_weight,
            delta_softplus,
            traversals_of(traversals, x.dim() - 2),
            stack};
}

// An uninitialised result in the layout that ops/cross_selective_scan/layout.py describes.
inline Tensor empty_result(const Tensor& x, int64_t count, bool stack) {
    std::vector<int64_t> order(x.dim());
    std::iota(order.begin(), order.end(), 0);
    const auto slower = [&](int64_t a, int64_t b) {
        const bool one = x.size(0) < 2;  // the stride of the batch says nothing then
        if (one && (a == 0 || b == 0)) return a == 0 && b != 0;
        return x.stride(a) > x.stride(b);
    };
    std::stable_sort(order.begin(), order.end(), slower);
    int64_t dense = 1;
    bool has_holes = false;
    for (auto axis = order.rbegin(); axis != order.rend(); ++axis) {
        has_holes |= x.size(*axis) != 1 && x.stride(*axis) != dense;
        dense *= x.size(*axis);
    }
    if (has_holes) std::iota(order.begin(), order.end(), 0);
    if (stack) {
        std::vector<int64_t> with_count;
        for (const int64_t axis : order) {
            with_count.push_back(axis > 0 ? axis + 1 : 0);
            if (axis == 0) with_count.push_back(1);
        }
        order = with_count;
    }
    std::vector<int64_t> sizes;
    for (const int64_t axis : order)
        sizes.push_back(!stack || axis == 0 ? x.size(axis) : axis == 1 ? count : x.size(axis - 1));
    Tensor result = empty(x, sizes);
    for (int64_t i = 0; i < static_cast<int64_t>(order.size()); ++i)
        while (order[i] != i) {
            const int64_t j = order[i];
            result = torch::stable::transpose(result, i, j);
            std::swap(order[i], order[j]);
        }
    return result;
}

// The sum over traversals of something shaped like x, which each sweep writes after adding what
// those before it gave. Half precisions are summed in float32 and rounded by the last sweep.
class Sum {
  public:
    Sum(const Tensor& result, const Tensor& like_state, int64_t count)
        : result_(result), total_(result), count_(count) {
        if (count > 1 && element_size(dtype_of(result)) == 2) {
            std::vector<int64_t> sizes;
            for (int64_t axis = 0; axis < result.dim(); ++axis) sizes.push_back(result.size(axis));
            total_ = empty(like_state, sizes);
        }
    }
    void of_sweep(int64_t k, const Traversal& traversal, Activation& to, Activation& sum) const {
        to = shared(k + 1 < count_ ? total_ : result_, traversal);
        if (k > 0) sum = shared(total_, traversal);
    }

  private:
    Tensor result_, total_;
    int64_t count_;
};

// Backend: fresh(tensor) may prepare a large new tensor; run(sweeps, forward, like) runs sweeps one
// after the other where the tensor `like` is; BatchSum is the sum over the batch of a parameter's
// cotangent, of `first` what the sweeps are to write.
template <class Backend>
std::tuple<Tensor, Tensor> forward(Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C,
                                   MaybeTensor D, MaybeTensor delta_bias, MaybeTensor delta_weight,
                                   bool delta_softplus, std::vector<int64_t> traversals, bool stack,
                                   int64_t interval) {
    const Inputs in =
        inputs(x, delta, A, B, C, D, delta_bias, delta_weight, delta_softplus, traversals, stack);
    const Tensor out = Backend::fresh(empty_result(x, in.count(), stack));
    const Sum sum(out, A, stack ? 1 : in.count());
    Tensor checkpoints = empty(A, {0});
    std::vector<Params> sweeps;
    for (int64_t k = 0; k < in.count(); ++k) {
        Params p = in.sweep(k);
        p.interval = interval;
        if (k == 0) checkpoints = new_checkpoints(p, A, in.count());
        take_checkpoints(p, checkpoints, k);
        if (stack)
            p.out = own(out, in.traversals[k], k);
        else
            sum.of_sweep(k, in.traversals[k], p.out, p.sum);
        sweeps.push_back(p);
    }
    Backend::run(sweeps, true, x);
    return {out, checkpoints};
}

using EightTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class Backend>
EightTensors backward(Tensor v_out, Tensor checkpoints, Tensor x, Tensor delta, Tensor A, Tensor B,
                      Tensor C, MaybeTensor D, MaybeTensor delta_bias, MaybeTensor delta_weight,
                      bool delta_softplus, std::vector<int64_t> traversals, bool stack,
                      int64_t interval, std::vector<bool> needs) {
    const Inputs in =
        inputs(x, delta, A, B, C, D, delta_bias, delta_weight, delta_softplus, traversals, stack);
    const MaybeTensor given[8] = {x, delta, A, B, C, D, delta_bias, delta_weight};
    Tensor v[8];
    MaybeTensor wanted[8];
    for (int i = 0; i < 8; ++i) {
        const bool make = needs[i] && given[i];
        v[i] = make ? Backend::fresh(torch::stable::empty_like(*given[i])) : empty(x, {0});
        if (make) wanted[i] = v[i];
    }
    const Sum v_x(v[0], A, in.count());
    std::vector<typename Backend::BatchSum> sums;  // of A, D, delta_bias and delta_weight
    std::vector<MaybeTensor> first;
    for (const int i : {2, 5, 6, 7}) {
        sums.emplace_back(v[i], in.sweep(0), wanted[i].has_value());
        first.push_back(wanted[i] ? MaybeTensor(sums.back().first()) : wanted[i]);
    }
    std::vector<Params> sweeps;
    for (int64_t k = 0; k < in.count(); ++k) {
        const Traversal& traversal = in.traversals[k];
        Params p = in.sweep(k);
        p.interval = interval;
        take_checkpoints(p, checkpoints, k);
        Cotangents& g = p.grad;
        g.v_out = stack ? own(v_out, traversal, k) : shared(v_out, traversal);
        if (wanted[0]) v_x.of_sweep(k, traversal, g.v_u, g.sum);
        if (wanted[1]) g.v_delta = own(v[1], traversal, k);
        if (first[0]) g.v_A = states_of(*first[0], k);
        if (wanted[3]) g.v_B = projection(v[3], traversal, k);
        if (wanted[4]) g.v_C = projection(v[4], traversal, k);
        g.v_D = vector_of(first[1], k);
        g.v_delta_bias = vector_of(first[2], k);
        g.v_delta_weight = weight_of(first[3], k);
        sweeps.push_back(p);
    }
    Backend::run(sweeps, false, x);
    for (const auto& sum : sums) sum.finish();
    return {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]};
}

}  // namespace ssno::cross_selective_scan
