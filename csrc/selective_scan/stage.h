// SPDX-License-Identifier: MIT
// Staging of a tile's operands for STEPS steps: (S1), (S2), B and C, masks, and the arrays in which
// one thread keeps them.
#pragma once

#include "selective_scan/panel.h"
#include "ssno/scan_step.h"

namespace ssno::SSNO_ISA {

// Run body(i) for all i < count on the caller's threads.
template <class F>
void parallel(const Params& p, int64_t count, const F& body) {
    p.parallel(count, &body,
               [](const void* context, int64_t i) { (*static_cast<const F*>(context))(i); });
}

// Split tiles (or units) 0 .. count - 1 into one run for each thread.
template <class F>
void in_slots(const Params& p, int64_t count, const F& body) {
    const int64_t slots = std::min<int64_t>(p.threads, count);
    if (slots > 0)
        parallel(p, slots, [&](int64_t s) { body(s, s * count / slots, (s + 1) * count / slots); });
}

constexpr int BLOCK = 4;  // states that are swept together: their chains of operations overlap

// Where B or C of BLOCK states stand: scalars [k][part][step], vectors [k][part][step][lane], or,
// constant in time, vectors [k][part][lane].
template <class T, bool Shared, bool X>
struct Operand {
    const T* p;
    int64_t state, part, step;
    SSNO_INLINE Number<T, X> at(int k, int t) const {
        Number<T, X> x;
        for (int c = 0; c < x.PARTS; ++c) {
            const T* from = p + k * state + c * part + t * step;
            x.part[c] = Shared ? splat<T>(*from) : load<T>(from);
        }
        return x;
    }
};

// What every sweep over a tile needs: its rates, its constant B and C, and room for staged
// operands.
template <class T, bool X>
struct Stage {
    static constexpr int W = Lanes<T>::W, P = X ? 2 : 1, RATES = Rate<T, X>::PARTS;
    const Params& p;
    Buffer<T> A, rate, constant_B, constant_C, B, C, dt, u, factors;
    Vec<T> fastest{};  // largest |rate| of each lane
    Panel<T> panel_u, panel_delta;
    SharedPanels<T> panels_B, panels_C, panels_delta;

    bool bounded = false;  // whether every dt A of the staged steps is, as `decay` asks
    const int64_t ahead;   // from a stage of steps to the one that will follow it

    Stage(const Params& params, int64_t following)
        : p(params),
          A(p.states * P * W),
          rate(p.states * RATES * W),
          constant_B(p.B.constant ? p.states * P * W : 0),
          constant_C(p.C.constant ? p.states * P * W : 0),
          B(p.B.constant ? 0 : BLOCK * P * STEPS * W),
          C(p.C.constant ? 0 : BLOCK * P * STEPS * W),
          dt(STEPS * W),
          u(STEPS * W),
          factors(BLOCK * STEPS * W),
          panel_u(p.u, p.length),
          panel_delta(p.delta, p.length),
          panels_B(p.B.path, p.length, p.states * P),
          panels_C(p.C.path, p.length, p.states * P),
          panels_delta(p.delta.path, p.length, p.rank),
          ahead(following) {}

    // Values (d, n) of A or of a constant B or C
    void take_states(const Tile<T>& tile, const void* from, int64_t d, int64_t n, int64_t c,
                     T* to) {
        for (int64_t i = 0; i < p.states * P; ++i) {
            store<T>(to + i * W, gather_lanes<T>(from, [&](int lane) {
                         return tile.d[lane] * d + i / P * n + i % P * c;
                     }));
        }
    }

    void begin(const Tile<T>& tile) {
        panel_u.forget();
        panel_delta.forget();
        for (SharedPanels<T>* panels : {&panels_B, &panels_C, &panels_delta}) panels->begin(tile);
        take_states(tile, p.A.p, p.A.d, p.A.n, p.A.c, A);
        for (int64_t n = 0; n < p.states; ++n)
            for (int lane = 0; lane < W; ++lane)
                Rate<T, X>::split(A + n * P * W + lane, rate + n * RATES * W + lane, W);
        fastest = Vec<T>{};
        for (int64_t n = 0; n < p.states; ++n)
            fastest = at_least(fastest, absolute<T>(load<T>(rate + n * RATES * W)));
        if (p.B.constant) take_states(tile, p.B.p, p.B.g, p.B.n, p.B.c, constant_B);
        if (p.C.constant) take_states(tile, p.C.p, p.C.g, p.C.n, p.C.c, constant_C);
    }

    Rate<T, X> rate_of(int64_t n) const { return Rate<T, X>::load(rate + n * RATES * W, W); }

    // Zero x where a lane is idle or past the end of its chunk.
    void mask(const Tile<T>& tile, int64_t t0, int steps, T* x) const {
        if (tile.even && tile.lanes == W) return;
        for (int i = 0; i < W; ++i) {
            const int64_t from = i < tile.lanes ? tile.steps_of(i, t0, steps) : 0;
            for (int64_t t = from; t < steps; ++t) x[t * W + i] = 0;
        }
    }

    // u, dt by (S1), (S2), and dt u to `dt_u`; with `slope`, the derivative of dt in s
    void stage_input(const Tile<T>& tile, int64_t t0, int steps, T* dt_u, T* slope = nullptr) {
        gather(tile, panel_u, t0, steps, static_cast<T*>(u), ahead);
        if (p.rank == 0)
            gather(tile, panel_delta, t0, steps, static_cast<T*>(dt), ahead);
        else if (tile.one_segment)
            project<true>(tile, t0, steps);
        else
            project<false>(tile, t0, steps);
        mask(tile, t0, steps, u);
        const Vec<T> bias = p.delta_bias.p ? lane_values(tile, p.delta_bias) : Vec<T>{};
        Vec<T> longest{};
        if (!p.delta_softplus)
            longest = take_steps(tile, t0, steps, dt_u, [&](Vec<T> s, int) { return s + bias; });
        else if (!slope)
            longest = take_steps(tile, t0, steps, dt_u,
                                 [&](Vec<T> s, int) { return softplus<T>(s + bias); });
        else
            longest = take_steps(tile, t0, steps, dt_u, [&](Vec<T> s, int t) {
                store<T>(slope + t * W, softplus_slope<T>(s + bias));
                return softplus<T>(s + bias);
            });
        bounded = within(longest * fastest, EXP2_BOUND<T>);
    }

    // dt from s, in place, and dt u; the largest |dt| of each lane
    template <class F>
    Vec<T> take_steps(const Tile<T>& tile, int64_t t0, int steps, T* dt_u, F from_s) {
        T* const dts = dt;  // in locals, so that the stores below are known not to change them
        const T* const us = u;
        Vec<T> longest{};
        for (int t = 0; t < steps; ++t) {
            const Vec<T> step = from_s(load<T>(dts + t * W), t);
            store<T>(dts + t * W, step);
            store<T>(dt_u + t * W, step * load<T>(us + t * W));
            longest = at_least(longest, absolute<T>(step));
        }
        mask(tile, t0, steps, dt);
        mask(tile, t0, steps, dt_u);
        return longest;
    }

    static bool within(Vec<T> x, T bound) {
        bool all = true;
        for (int i = 0; i < W; ++i) all &= x[i] <= bound;
        return all;
    }

    Vec<T> lane_values(const Tile<T>& tile, const Vector& v) const {
        return gather_lanes<T>(v.p, [&](int i) { return tile.d[i] * v.d; });
    }
    Vec<T> weight(const Tile<T>& tile, int64_t r) const {
        return gather_lanes<T>(p.delta_weight.p, [&](int i) {
            return tile.d[i] * p.delta_weight.d + r * p.delta_weight.r;
        });
    }

    // The factors r .. r + count - 1 of a low-rank delta, count <= BLOCK, to `factors`
    template <bool Shared>
    void stage_factors(const Tile<T>& tile, int64_t r, int count, int64_t t0, int steps) {
        T* const to = factors;
        if (Shared && panels_delta.columns.span > 0) {
            const Activation a = row_at(p.delta, tile.b[0] * p.delta.b + r * p.delta.d);
            gather_shared(
                tile, a, r, count, [&](int i) { return i * p.delta.d; }, t0, steps, to, STEPS,
                ahead, panels_delta);
            return;
        }
        for (int i = 0; i < count; ++i)
            gather_common<T, Shared>(
                tile, p.delta, [&](int) { return r + i; }, t0, steps,
                to + i * STEPS * (Shared ? 1 : W));
    }
    // The i-th of them at step t
    template <bool Shared>
    static SSNO_INLINE Vec<T> factor(const T* staged, int i, int t) {
        return Shared ? splat<T>(staged[i * STEPS + t]) : load<T>(staged + (i * STEPS + t) * W);
    }

    // s, before bias and softplus, to `dt`: several factors at a time, since each pass over the
    // steps reads and writes it
    template <bool Shared>
    void project(const Tile<T>& tile, int64_t t0, int steps) {
        for (int64_t r = 0; r < p.rank;) {
            if (p.rank - r >= 4)
                r += add_factors<Shared, 4>(tile, r, t0, steps);
            else if (p.rank - r >= 2)
                r += add_factors<Shared, 2>(tile, r, t0, steps);
            else
                r += add_factors<Shared, 1>(tile, r, t0, steps);
        }
    }

    template <bool Shared, int Count>
    int add_factors(const Tile<T>& tile, int64_t r, int64_t t0, int steps) {
        static_assert(Count <= BLOCK);
        stage_factors<Shared>(tile, r, Count, t0, steps);
        const T* const staged = factors;
        T* const sums = dt;
        Vec<T> w[Count];
        for (int i = 0; i < Count; ++i) w[i] = weight(tile, r + i);
        for (int t = 0; t < steps; ++t) {
            Vec<T> s = r ? load<T>(sums + t * W) : Vec<T>{};
            for (int i = 0; i < Count; ++i) s = w[i] * factor<Shared>(staged, i, t) + s;
            store<T>(sums + t * W, s);
        }
        return Count;
    }

    // B or C of states n .. n + count - 1
    template <bool Shared>
    Operand<T, Shared, X> stage(const Tile<T>& tile, const Projection& M, const T* constant,
                                SharedPanels<T>& panels, T* room, int64_t n, int count, int64_t t0,
                                int steps) {
        if (M.constant) return {constant + n * P * W, P * W, W, 0};
        const int64_t per_group = p.channels / M.groups;
        const Path& path = M.path;
        const int64_t start = tile.first[0] + t0;
        if constexpr (Shared)
            if (p.dtype == (sizeof(T) == 8 ? Dtype::f64 : Dtype::f32) && panels.columns.span == 0 &&
                path.run(start) >= steps) {
                // read where they are
                const T* from = static_cast<const T*>(M.p) + tile.b[0] * M.b +
                                tile.d[0] / per_group * M.g + n * M.n;
                if (t0 + ahead >= 0 && t0 + ahead + STEPS <= tile.longest)
                    for (int i = 0; i < count * P; ++i)
                        prefetch_row(from + i / P * M.n + i % P * M.c + path.at(start + ahead),
                                     path.t, STEPS);
                return {from + path.at(start), M.n, M.c, path.t};
            }
        constexpr int64_t step = Shared ? 1 : W;
        if (Shared && panels.columns.span > 0) {
            const Activation a{const_cast<void*>(M.p), 0, 0, path, p.dtype};
            const int64_t group = tile.d[0] / per_group;
            gather_shared(
                tile, row_at(a, tile.b[0] * M.b + group * M.g + n * M.n), n * P, count * P,
                [&](int i) { return i / P * M.n + i % P * M.c; }, t0, steps, room, STEPS, ahead,
                panels);
            return {room, P * STEPS, STEPS, 1};
        }
        for (int i = 0; i < count * P; ++i) {
            const Activation a{static_cast<char*>(const_cast<void*>(M.p)) +
                                   (n + i / P) * bytes(M.n) + i % P * bytes(M.c),
                               M.b, M.g, path, p.dtype};
            gather_common<T, Shared>(
                tile, a, [&](int l) { return tile.d[l] / per_group; }, t0, steps,
                room + i * STEPS * step);
        }
        return {room, P * STEPS * step, STEPS * step, step};
    }

    // What lies along the path of `a` from `offset` elements on
    Activation row_at(Activation a, int64_t offset) const {
        a.p = static_cast<char*>(a.p) + bytes(offset);
        return a;
    }
    int64_t bytes(int64_t elements) const { return elements * element_size(p.dtype); }
};

}  // namespace ssno::SSNO_ISA
