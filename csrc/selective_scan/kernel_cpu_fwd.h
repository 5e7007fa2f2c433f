// SPDX-License-Identifier: MIT
// The forward sweep on the CPU: (S3) to (S5), the carry between chunks of time, checkpoints.
#pragma once

#include "selective_scan/stage.h"

namespace ssno::SSNO_ISA {

// Sweep `steps` steps of `Count` states; add their part of y where Output.
template <class T, bool X, bool Output, Range R, int Count, class OperandB, class OperandC>
SSNO_INLINE void sweep(int steps, const T* dt, const T* dt_u, T* y, const T* rate, T* h, OperandB B,
                       OperandC C) {
    constexpr int W = Lanes<T>::W, P = X ? 2 : 1;
    using Num = Number<T, X>;
    Num state[Count];
    Rate<T, X> a[Count];
    for (int k = 0; k < Count; ++k) {
        state[k] = Num::load(h + k * P * W, W);
        a[k] = Rate<T, X>::load(rate + k * Rate<T, X>::PARTS * W, W);
    }
    for (int t = 0; t < steps; ++t) {
        const Vec<T> step = load<T>(dt + t * W), step_u = load<T>(dt_u + t * W);
        Vec<T> sum = Output ? load<T>(y + t * W) : Vec<T>{};
#pragma GCC unroll 8
        for (int k = 0; k < Count; ++k) {
            state[k] = advance(decay<R>(step, a[k]), state[k], step_u, B.at(k, t));
            if (Output) sum += observe(C.at(k, t), state[k]);
        }
        if (Output) store<T>(y + t * W, sum);
    }
    for (int k = 0; k < Count; ++k) state[k].store(h + k * P * W, W);
}

// The same for all states, BLOCK at a time.
template <class T, bool X, bool Shared, bool Output>
void sweep_all(Stage<T, X>& s, const Tile<T>& tile, int64_t t0, int steps, const T* dt_u, T* y,
               T* h) {
    constexpr int W = Lanes<T>::W, P = X ? 2 : 1;
    const Params& p = s.p;
    for (int64_t n = 0; n < p.states;) {
        const int count = p.states - n >= BLOCK ? BLOCK : 1;
        const auto B =
            s.template stage<Shared>(tile, p.B, s.constant_B, s.panels_B, s.B, n, count, t0, steps);
        Operand<T, Shared, X> C{};
        if (Output)
            C = s.template stage<Shared>(tile, p.C, s.constant_C, s.panels_C, s.C, n, count, t0,
                                         steps);
        const T* rate = s.rate + n * Rate<T, X>::PARTS * W;
        T* state = h + n * P * W;
        if (count == 1)
            sweep<T, X, Output, Range::any, 1>(steps, s.dt, dt_u, y, rate, state, B, C);
        else if (s.bounded)
            sweep<T, X, Output, Range::bounded, BLOCK>(steps, s.dt, dt_u, y, rate, state, B, C);
        else
            sweep<T, X, Output, Range::any, BLOCK>(steps, s.dt, dt_u, y, rate, state, B, C);
        n += count;
    }
}

// States of a tile's rows at the start of their chunks, [n][part][lane], from (B, D, N) or zero.
template <class T, bool X>
void take_initial(const Params& p, const Tile<T>& tile, const States& from, T* h) {
    constexpr int W = Lanes<T>::W, P = X ? 2 : 1;
    for (int64_t i = 0; i < p.states * P; ++i) {
        Vec<T> v{};
        if (from.p)
            v = gather_lanes<T>(from.p, [&](int l) {
                return tile.b[l] * from.b + tile.d[l] * from.d + i / P * from.n + i % P * from.c;
            });
        store<T>(h + i * W, v);
    }
}

// The reverse, for the lanes whose chunk is `chunk`.
template <class T, bool X>
void give_states(const Params& p, const Tile<T>& tile, int64_t chunk, const States& to,
                 const T* h) {
    constexpr int W = Lanes<T>::W, P = X ? 2 : 1;
    if (!to.p) return;
    for (int64_t i = 0; i < p.states * P; ++i)
        for (int l = 0; l < tile.lanes; ++l)
            if (tile.chunk[l] == chunk)
                static_cast<T*>(
                    to.p)[tile.b[l] * to.b + tile.d[l] * to.d + i / P * to.n + i % P * to.c] =
                    h[i * W + l];
}

// Offsets of the lanes' checkpoints taken before step first + t0 of the sweep; -1 where there is
// none.
template <class T>
void checkpoint_offsets(const Params& p, const Tile<T>& tile, int64_t t0, int64_t parts,
                        int64_t* offsets) {
    for (int l = 0; l < Lanes<T>::W; ++l) {
        const int64_t slot = (tile.first[l] + t0) / p.interval - 1;
        const bool none = l >= tile.lanes || t0 >= tile.count[l] || slot < 0;
        offsets[l] =
            none ? -1 : tile.b[l] * p.checkpoints_stride + slot * parts * p.channels + tile.d[l];
    }
}

template <class T, bool X>
void save_checkpoint(const Params& p, const Tile<T>& tile, int64_t t0, const T* h) {
    constexpr int W = Lanes<T>::W;
    const int64_t parts = p.states * (X ? 2 : 1);
    int64_t offsets[W];
    checkpoint_offsets(p, tile, t0, parts, offsets);
    T* to = static_cast<T*>(p.checkpoints);
    const bool together = tile.one_segment && tile.lanes == W && offsets[0] >= 0;
    for (int64_t i = 0; i < parts; ++i) {
        if (together)
            store<T>(to + offsets[0] + i * p.channels, load<T>(h + i * W));
        else
            for (int l = 0; l < W; ++l)
                if (offsets[l] >= 0) to[offsets[l] + i * p.channels] = h[i * W + l];
    }
}

// Add to x[step][lane] what stands in the panel's activation, if there is one.
template <class T>
void add_sum(const Tile<T>& tile, Panel<T>& sum, int64_t t0, int steps, T* x, T* room,
             int64_t ahead) {
    if (!sum.a.p) return;
    gather(tile, sum, t0, steps, room, ahead);
    for (int i = 0; i < steps * Lanes<T>::W; ++i) x[i] += room[i];
}

template <class T, bool X>
struct Forward {
    static constexpr int W = Lanes<T>::W, P = X ? 2 : 1;
    Stage<T, X> stage;
    Panel<T> sum, out;
    Buffer<T> h, dt_u, y, gate;

    explicit Forward(const Params& p)
        : stage(p, STEPS),
          sum(p.sum, p.length),
          out(p.out, p.length),
          h(p.states * P * W),
          dt_u(STEPS * W),
          y(STEPS * W),
          gate(p.z.p ? STEPS * W : 0) {}

    template <bool Shared>
    void run(const Params& p, const Plan& plan, const Tile<T>& tile) {
        sum.forget();
        const Vec<T> skip = p.D.p ? stage.lane_values(tile, p.D) : Vec<T>{};
        for (int64_t t0 = 0; t0 < tile.longest; t0 += STEPS) {
            const int steps = static_cast<int>(std::min<int64_t>(STEPS, tile.longest - t0));
            if (p.checkpoints && t0 % p.interval == 0) save_checkpoint<T, X>(p, tile, t0, h);
            stage.stage_input(tile, t0, steps, dt_u);
            for (int t = 0; t < steps; ++t)
                store<T>(y + t * W, p.D.p ? skip * load<T>(stage.u + t * W) : Vec<T>{});
            sweep_all<T, X, Shared, true>(stage, tile, t0, steps, dt_u, y, h);
            if (p.z.p) {  // (S5)
                gather(tile, p.z, t0, steps, static_cast<T*>(gate), STEPS);
                for (int t = 0; t < steps; ++t) {
                    const Vec<T> z = load<T>(gate + t * W);
                    store<T>(y + t * W, load<T>(y + t * W) * z * sigmoid<T>(z));
                }
            }
            add_sum<T>(tile, sum, t0, steps, y, dt_u, STEPS);
            scatter(tile, out, t0, steps, static_cast<const T*>(y), false);
        }
        flush(tile, out);
        give_states<T, X>(p, tile, plan.chunks - 1, p.final_state, h);
    }
};

}  // namespace ssno::SSNO_ISA
