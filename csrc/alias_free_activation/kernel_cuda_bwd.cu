// SPDX-License-Identifier: MIT
// The backward CUDA kernels of the alias-free activation.
#include "alias_free_activation/dispatch_cuda.h"
#include "alias_free_activation/kernel_cuda.h"

namespace ssno::alias_free_activation {

namespace {

// What the tile has of v_x along an axis.
SSNO_DEVICE Span result_span(const Plan& plan, const Geometry& here, const Task& task, int axis) {
    Span there(here.get(axis, Geometry::RESULT), task.n[axis]);
    const int tile = static_cast<int>(plan.tile[axis]);
    there.end = there.end < tile ? there.end : tile;
    return there;
}

// Sums of v_x over a block's tile, one for each of its channels (A7).
template <class T>
SSNO_DEVICE void sum_channels(const Plan& plan, const Geometry& here, const Task& task,
                              Shared<T> tile, Shared<T> sums) {
    const Slices& s = plan.slices_o;
    const Span D = result_span(plan, here, task, 0), H = result_span(plan, here, task, 1),
               W = result_span(plan, here, task, 2);
    for (int c = 0; c < plan.channels; ++c) {
        T sum = 0;
        for (int d = D.begin; d < D.end; ++d)
            for (int h = H.begin + cuda::warp(); h < H.end; h += THREADS / cuda::WARP)
                for (int w = W.begin + cuda::lane(); w < W.end; w += cuda::WARP)
                    sum += tile.load(c * s.channel + d * s.stride + h * s.row + w);
        sum = block_sum(sum, sums);
        const int64_t channel = here.channel() + c;
        if (thread() == 0 && channel < task.channels)
            static_cast<T*>(
                task.scratch)[channel * task.parts + here.batch() * task.tiles + here.tile()] = sum;
    }
}

// gain act'(s) of the fine samples that out reaches, 0 of others, from Q to F.
template <class T, class U>
SSNO_DEVICE void derivative(const Plan& plan, const Geometry& here, const Task& task,
                            const Buffers<T>& b) {
    const U up(weights<T>(), task.u);
    const Shared<T> x = plan.axes == AXES ? b.Q : b.X;
    if (plan.flat == 2) {
        expand<false>(plan.expand_x[0], up, x, 0, b.R);
        sync_block();
    }
    const bool leaky = task.act == Act::leaky_relu;
    const T gain = static_cast<T>(task.gain), negative = static_cast<T>(task.negative_slope);
    const Pass& last = plan.expand_x[plan.flat - 1];
    const int begin = here.begin(last.axis), end = here.end(last.axis);
    const int begin_across = here.begin(last.across_axis), end_across = here.end(last.across_axis);
    expand<false>(
        last, up, plan.flat == 2 ? b.R : x, 0,
        [&](int i, int f, T s) {
            const T value = leaky ? (s > T(0) ? gain : gain * negative) : s;
            b.F.store(i, f >= begin && f < end ? value : T(0));
        },
        [&](const Piece& at, int f, int count) {
            const bool line = at.across >= begin_across && at.across < end_across;
            if (line && leaky) return;
#pragma unroll 1
            for (int j = f; j < f + count; ++j) {
                const int i = at.to + j * last.to.step;
                const bool there = line && j >= begin && j < end;
                b.F.store(i, there ? gain * slope(task.act, b.F.load(i), negative) : T(0));
            }
        });
    sync_block();
}

// F times v_t (A6), from Q.
template <class T, class V>
SSNO_DEVICE void times_v(const Plan& plan, const Geometry& here, const Task& task,
                         const Buffers<T>& b) {
    const V down(weights<T>() + task.u.taps, task.v);
    const Shared<T> v = plan.axes == AXES ? b.Q : b.V;
    if (plan.flat == 2) {
        const Pass& first = plan.expand_v[0];
        expand<true>(first, down, v, here.shift(first.axis), b.R);
        sync_block();
    }
    const Pass& last = plan.expand_v[plan.flat - 1];
    expand<true>(
        last, down, plan.flat == 2 ? b.R : v, here.shift(last.axis),
        [&](int i, int, T s) { b.F.store(i, b.F.load(i) * s); }, [](const Piece&, int, int) {});
    sync_block();
}

// (A6) and (A7) for one tile of v_x.
template <class S, class U, class V>
SSNO_KERNEL(THREADS, sizeof(S) == 8 ? 2 : 4)
backward_kernel(SSNO_CONSTANT Plan plan, SSNO_CONSTANT Task task) {
    using T = typename Computed<S>::type;
    if (cuda::block_number() >= plan.blocks) return;
    const Geometry here;
    here.find(plan, task);
    sync_block();
    here.find_places(plan);
    load_weights<T>(plan, task, here);
    sync_block();
    const Buffers<T> b(plan, here);
    const Shared<T> of_up = weights<T>(), of_down = of_up + task.u.taps,
                    bias = of_down + task.v.taps;
    const bool deep = plan.axes == AXES;
    load_tile<S>(plan, here, Geometry::X, bias, b.X);
    if (deep) {
        load_tile<S>(plan, here, Geometry::V, bias, b.V);
        clear_depth(plan.slices_o, b.O);
    }
    sync_block();
    for (int f = here.begin(0); f < plan.depth && f < here.end(0); ++f) {
        if (deep) {
            expand_depth(plan.slices_x, of_up, task.u, b.X, f, b.Q);
            sync_block();
        }
        derivative<T, U>(plan, here, task, b);
        if (deep)
            expand_depth(plan.slices_v, of_down, task.v, b.V, f + here.shift(0), b.Q);
        else
            load_tile<S>(plan, here, Geometry::V, bias, b.V);
        sync_block();
        times_v<T, V>(plan, here, task, b);
        reduced<false>(plan, here, U(of_up, task.u), b);
        if (deep) {
            reduce_depth(plan.slices_o, of_up, task.u, b.Q, f, b.O);
            sync_block();
        }
    }
    if (plan.transfers[Geometry::RESULT].p) store_tile<S>(plan, here, b.O);
    if (task.scratch) sum_channels(plan, here, task, b.O, b.R);
}

// v_bias from the sums of all tiles, a channel a block.
template <class T>
SSNO_KERNEL(THREADS, 1)
sum_kernel(const T* scratch, int64_t parts, T* v_bias) {
    T sum = 0;
    for (int64_t i = thread(); i < parts; i += THREADS) sum += scratch[cuda::block_x() * parts + i];
    sum = block_sum(sum, cuda::shared<T>(0));
    if (thread() == 0) v_bias[cuda::block_x()] = sum;
}

struct Backward {
    static constexpr bool BACKWARD = true;
    const std::function<void*(int64_t)>& scratch;
    void* stream;

    template <class S, class U, class V>
    void run(const Planner& planner, Task task) const {
        using T = typename Computed<S>::type;
        const Plan& plan = planner.plan;
        const Params& p = planner.p;
        task.tiles = plan.tiles[0] * plan.tiles[1] * plan.tiles[2];
        task.parts = task.tiles * p.batch;
        if (p.v_bias) task.scratch = scratch(p.channels * task.parts);
        if (plan.blocks > 0)
            cuda::launch(backward_kernel<S, U, V>, cuda::grid_of(plan.blocks), THREADS, plan.bytes,
                         stream, plan, task);
        if (p.v_bias)
            cuda::launch(sum_kernel<T>, {p.channels}, THREADS, THREADS / cuda::WARP * sizeof(T),
                         stream, static_cast<const T*>(task.scratch), task.parts,
                         static_cast<T*>(p.v_bias));
    }
};

}  // namespace

void backward_cuda(const Params& p, const std::function<void*(int64_t)>& scratch, void* stream) {
    dispatch(p, Backward{scratch, stream});
}

}  // namespace ssno::alias_free_activation
