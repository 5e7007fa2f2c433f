// SPDX-License-Identifier: MIT
// The forward CUDA kernel of the alias-free activation.
#include "alias_free_activation/dispatch_cuda.h"
#include "alias_free_activation/kernel_cuda.h"

namespace ssno::alias_free_activation {

namespace {

// (A3) and (A4), from Q to F.
template <class T, class U>
SSNO_DEVICE void activated(const Plan& plan, const Task& task, const Buffers<T>& b) {
    const U up(weights<T>(), task.u);
    const Shared<T> x = plan.axes == AXES ? b.Q : b.X;
    if (plan.flat == 2) {
        expand<false>(plan.expand_x[0], up, x, 0, b.R);
        sync_block();
    }
    const bool leaky = task.act == Act::leaky_relu;
    const T gain = static_cast<T>(task.gain), negative = static_cast<T>(task.negative_slope);
    const T above = leaky ? gain : T(1), below = leaky ? gain * negative : T(1);
    const Pass& last = plan.expand_x[plan.flat - 1];
    expand<false>(
        last, up, plan.flat == 2 ? b.R : x, 0,
        [&](int i, int, T s) { b.F.store(i, s * (s > T(0) ? above : below)); },
        [&](const Piece& at, int f, int count) {
            if (leaky) return;
#pragma unroll 1
            for (int j = f; j < f + count; ++j) {
                const int i = at.to + j * last.to.step;
                b.F.store(i, gain * activate(task.act, b.F.load(i), negative));
            }
        });
    sync_block();
}

// (A1) to (A5) for one tile of out.
template <class S, class U, class V>
SSNO_KERNEL(THREADS, sizeof(S) == 8 ? 2 : 4)
forward_kernel(SSNO_CONSTANT Plan plan, SSNO_CONSTANT Task task) {
    using T = typename Computed<S>::type;
    if (cuda::block_number() >= plan.blocks) return;
    const Geometry here;
    here.find(plan, task);
    sync_block();
    here.find_places(plan);
    load_weights<T>(plan, task, here);
    sync_block();
    const Buffers<T> b(plan, here);
    const Shared<T> of_down = weights<T>() + task.u.taps, bias = of_down + task.v.taps;
    load_tile<S>(plan, here, Geometry::X, bias, b.X);
    if (plan.axes == AXES) clear_depth(plan.slices_o, b.O);
    sync_block();
    for (int f = 0; f < plan.depth; ++f) {
        if (plan.axes == AXES) {
            expand_depth(plan.slices_x, weights<T>(), task.u, b.X, f, b.Q);
            sync_block();
        }
        activated<T, U>(plan, task, b);
        reduced<true>(plan, here, V(of_down, task.v), b);
        if (plan.axes == AXES) {
            reduce_depth(plan.slices_o, of_down, task.v, b.Q, f - here.shift(0), b.O);
            sync_block();
        }
    }
    store_tile<S>(plan, here, b.O);
}

struct Forward {
    static constexpr bool BACKWARD = false;
    void* stream;

    template <class S, class U, class V>
    void run(const Planner& planner, const Task& task) const {
        const Plan& plan = planner.plan;
        cuda::launch(forward_kernel<S, U, V>, cuda::grid_of(plan.blocks), THREADS, plan.bytes,
                     stream, plan, task);
    }
};

}  // namespace

void forward_cuda(const Params& p, void* stream) { dispatch(p, Forward{stream}); }

}  // namespace ssno::alias_free_activation
