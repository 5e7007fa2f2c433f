// SPDX-License-Identifier: MIT
// A thread takes whole batch entries through all traversals where there are enough of them: nothing
// waits between sweeps, and what a sweep reads is in the cache from the one before.
#pragma once

#include <vector>

#include "selective_scan/call.h"

namespace ssno::selective_scan {

inline void set_threads(Params& p) {
    p.threads = static_cast<int>(torch::stable::get_num_threads());
    p.parallel = run_parallel;
}

// Whether batch entries share out evenly among threads, each with channels to fill lanes and steps
// that take longer than sums of each entry's own
inline bool by_entries(const Params& p) {
    constexpr int64_t HALF_A_VECTOR = 8, LEAST_STEPS = 128;
    const bool even = p.batch % p.threads == 0 || p.batch >= 4 * p.threads;
    return p.batch >= p.threads && even && p.channels > HALF_A_VECTOR && p.length >= LEAST_STEPS;
}

// One batch entry of a sweep, for one thread. The sums over the batch, of `count` traversals each,
// go to a part for each entry.
inline Params entry_of(Params p, int64_t b, int64_t count) {
    const int64_t state = p.dtype == Dtype::f64 ? 8 : 4;
    const auto moved = [](const void* from, int64_t bytes) {
        return from ? static_cast<char*>(const_cast<void*>(from)) + bytes : nullptr;
    };
    Cotangents& g = p.grad;
    for (Activation* a : {&p.u, &p.delta, &p.out, &p.sum, &g.v_out, &g.v_u, &g.v_delta, &g.sum})
        a->p = moved(a->p, b * a->b * element_size(a->dtype));
    for (Projection* m : {&p.B, &p.C, &g.v_B, &g.v_C})
        m->p = moved(m->p, b * m->b * element_size(p.dtype));
    p.checkpoints = moved(p.checkpoints, b * p.checkpoints_stride * state);
    const int64_t rows = b * count * p.channels * state;
    g.v_A.p = moved(g.v_A.p, rows * p.states);
    g.v_D.p = moved(g.v_D.p, rows);
    g.v_delta_bias.p = moved(g.v_delta_bias.p, rows);
    g.v_delta_weight.p = moved(g.v_delta_weight.p, rows * p.rank);
    p.batch = 1;
    p.threads = 1;
    p.parallel = [](int64_t n, const void* context, void (*body)(const void*, int64_t)) {
        for (int64_t i = 0; i < n; ++i) body(context, i);
    };
    return p;
}

// Sweeps in turn: by batch entries, or each by all threads.
inline void run(const std::vector<Params>& sweeps, bool forward) {
    if (!by_entries(sweeps[0])) {
        for (const Params& p : sweeps) dispatch(p, forward);
        return;
    }
    const auto count = static_cast<int64_t>(sweeps.size());
    const auto body = [&](int64_t b) {
        for (const Params& p : sweeps) dispatch(entry_of(p, b, count), forward);
    };
    run_parallel(sweeps[0].batch, &body, [](const void* context, int64_t b) {
        (*static_cast<const decltype(body)*>(context))(b);
    });
}

template <class T>
void add_up(const Tensor& parts, const Tensor& sum) {
    const int64_t entries = parts.size(0), inner = sum.dim() > 2 ? sum.size(2) : 1;
    const int64_t stride = sum.dim() > 2 ? sum.stride(2) : 0;
    const T* from = static_cast<const T*>(parts.data_ptr());
    for (int64_t k = 0; k < sum.size(0); ++k)
        for (int64_t d = 0; d < sum.size(1); ++d)
            for (int64_t i = 0; i < inner; ++i, ++from) {
                double s = 0;
                for (int64_t b = 0; b < entries; ++b) s += from[b * parts.stride(0)];
                static_cast<T*>(
                    sum.data_ptr())[k * sum.stride(0) + d * sum.stride(1) + i * stride] =
                    static_cast<T>(s);
            }
}

// Sums over the batch of something shaped like a parameter, (K, D) or (K, D, N)
class BatchSum {
  public:
    // `sum` is the result, or empty where nobody asked
    BatchSum(const Tensor& sum, Params p, bool wanted) : sum_(sum), parts_(sum) {
        set_threads(p);
        if (!wanted || !by_entries(p)) return;
        std::vector<int64_t> sizes{p.batch};
        for (int64_t axis = 0; axis < sum.dim(); ++axis) sizes.push_back(sum.size(axis));
        parts_ = empty(sum, sizes);
        apart_ = true;
    }
    // Entry 0's, or the result itself
    Tensor first() const { return apart_ ? torch::stable::select(parts_, 0, 0) : sum_; }
    void finish() const {
        if (!apart_) return;
        dtype_of(sum_) == Dtype::f64 ? add_up<double>(parts_, sum_) : add_up<float>(parts_, sum_);
    }

  private:
    Tensor sum_, parts_;
    bool apart_ = false;
};

}  // namespace ssno::selective_scan
