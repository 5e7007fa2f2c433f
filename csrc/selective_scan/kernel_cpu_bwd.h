// SPDX-License-Identifier: MIT
// The adjoint sweep on the CPU: (S6) to (S9). States are recomputed from the checkpoints, 64 steps
// and BLOCK states at a time, so that they never leave the cache.
#pragma once

#include "selective_scan/partial_sums.h"

namespace ssno::SSNO_ISA {

// Rows of the channels' sums: v_A, v_B and v_C if constant, v_D, v_delta_bias, v_delta_weight
struct ChannelRows {
    int64_t A, B, C, D, bias, weight, total;
    ChannelRows(const Params& p, int64_t parts) {
        const int64_t states = p.states * parts;
        A = 0;
        B = A + states;
        C = B + (p.B.constant ? states : 0);
        D = C + (p.C.constant ? states : 0);
        bias = D + 1;
        weight = bias + 1;
        total = weight + p.rank;
    }
};

template <class T>
struct RowSumsOf {
    RowSums<T> B, C, delta;
    RowSumsOf(const Params& p, const Plan& plan, int64_t parts, int64_t per_state)
        : B(p, plan, p.grad.v_B, p.grad.v_B.p && !p.B.constant, p.states, per_state, parts),
          C(p, plan, p.grad.v_C, p.grad.v_C.p && !p.C.constant, p.states, per_state, parts),
          delta(p, plan, factors(p.grad.v_delta), p.grad.v_delta.p && p.rank > 0, p.rank, 1,
                parts) {}

    static Projection factors(const Activation& x) {
        return {x.p, false, 1, x.b, 0, x.d, 0, x.path};
    }
};

// Of the parts into which a segment's blocks are split, and whether a tile is the first of its part
struct Part {
    int64_t index;
    bool first;
};

template <class T, bool X>
struct Backward {
    static constexpr int W = Lanes<T>::W, P = X ? 2 : 1;
    using Num = Number<T, X>;
    const Params& p;
    const Plan& plan;
    const RowSumsOf<T>& rows;
    const ChannelRows channel;
    Stage<T, X> stage;
    Panel<T> in_v_out, sum, to_v_u, to_v_delta;
    Buffer<T> v_h;                             // [n][part][lane]
    Buffer<double> sums;                       // [channel row][lane]
    Buffer<T> h, boundary;                     // states at the start of sub-tiles
    Buffer<T> slope, dt_u, v_y, v_dt, v_dt_u;  // [step][lane]
    Buffer<T> y, z, v_out;                     // for the gate
    Buffer<T> past, decays, terms_B, terms_C;  // [k][part][step][lane]

    Backward(const Params& params, const Plan& the_plan, const RowSumsOf<T>& row_sums)
        : p(params),
          plan(the_plan),
          rows(row_sums),
          channel(p, P),
          stage(p, -STEPS),
          in_v_out(p.grad.v_out, p.length),
          sum(p.grad.sum, p.length),
          to_v_u(p.grad.v_u, p.length),
          to_v_delta(p.grad.v_delta, p.length),
          v_h(p.states * P * W),
          sums(channel.total * W),
          h(p.states * P * W),
          boundary(p.states * P * W * ((p.interval + STEPS - 1) / STEPS)),
          slope(STEPS * W),
          dt_u(STEPS * W),
          v_y(STEPS * W),
          v_dt(STEPS * W),
          v_dt_u(STEPS * W),
          y(STEPS * W),
          z(STEPS * W),
          v_out(STEPS * W),
          past(BLOCK * P * (STEPS + 1) * W),
          decays(BLOCK * P * STEPS * W),
          terms_B(BLOCK * P * STEPS * W),
          terms_C(BLOCK * P * STEPS * W) {}

    void begin(const Tile<T>& tile) {
        stage.begin(tile);
        in_v_out.forget();
        sum.forget();
        std::memset(sums, 0, channel.total * W * sizeof(double));
    }

    // v_y = v_out silu(z); keeps z and v_out.
    void stage_cotangent(const Tile<T>& tile, int64_t t0, int steps, T* x) {
        gather(tile, in_v_out, t0, steps, x, stage.ahead);
        if (p.z.p) {
            gather(tile, p.z, t0, steps, static_cast<T*>(z), stage.ahead);
            for (int t = 0; t < steps; ++t) {
                const Vec<T> gate = load<T>(z + t * W), v = load<T>(x + t * W);
                store<T>(v_out + t * W, v);
                store<T>(x + t * W, v * gate * sigmoid<T>(gate));
            }
        }
        stage.mask(tile, t0, steps, x);
    }

    void take_checkpoint(const Tile<T>& tile, int64_t t0) {
        const int64_t parts = p.states * P;
        int64_t offsets[W];
        take_initial<T, X>(p, tile, p.initial_state, h);
        checkpoint_offsets(p, tile, t0, parts, offsets);
        const T* from = static_cast<const T*>(p.checkpoints);
        const bool together = tile.one_segment && tile.lanes == W && offsets[0] >= 0;
        for (int64_t i = 0; i < parts; ++i) {
            if (together)
                store<T>(h + i * W, load<T>(from + offsets[0] + i * p.channels));
            else
                for (int l = 0; l < W; ++l)
                    if (offsets[l] >= 0)
                        h[i * W + l] = from[offsets[l] + i * p.channels];
                    else if (tile.first[l] + t0 > 0)
                        h[i * W + l] = 0;  // idle, or past its end
        }
    }

    // Add STEPS steps' sum to a channel row. In double: a row can sum over millions of steps.
    void accumulate(int64_t row, Vec<T> v) {
        for (int i = 0; i < W; ++i) sums[row * W + i] += static_cast<double>(v[i]);
    }

    // The states of BLOCK (or one) states from h, kept with their decays; adds to y where asked.
    template <bool Shared, Range R, int Count>
    void recompute(int steps, int64_t n, Operand<T, Shared, X> B, Operand<T, Shared, X> C,
                   bool with_y) {
        // in locals, so that the stores below are known not to change them
        const T *const dts = stage.dt, *const dts_u = dt_u;
        T *const ys = y, *const before = past, *const as = decays;
        Num state[Count];
        Rate<T, X> rate[Count];
        for (int k = 0; k < Count; ++k) {
            state[k] = Num::load(h + (n + k) * P * W, W);
            rate[k] = stage.rate_of(n + k);
        }
        for (int t = 0; t < steps; ++t) {
            const Vec<T> dt = load<T>(dts + t * W), du = load<T>(dts_u + t * W);
            Vec<T> sum = load<T>(ys + t * W);
#pragma GCC unroll 8
            for (int k = 0; k < Count; ++k) {
                T* to = before + (k * P * (STEPS + 1) + t) * W;
                state[k].store(to, (STEPS + 1) * W);
                const Num a = decay<R>(dt, rate[k]);
                a.store(as + (k * P * STEPS + t) * W, STEPS * W);
                state[k] = advance(a, state[k], du, B.at(k, t));
                if (with_y) sum += observe(C.at(k, t), state[k]);
            }
            if (with_y) store<T>(ys + t * W, sum);
        }
        for (int k = 0; k < Count; ++k)
            state[k].store(past + (k * P * (STEPS + 1) + steps) * W, (STEPS + 1) * W);
    }

    // (S6) to (S9) back through the steps that `recompute` went
    template <bool Shared, int Count>
    void reverse(int steps, int64_t n, Operand<T, Shared, X> B, Operand<T, Shared, X> C) {
        const T *const dts = stage.dt, *const dts_u = dt_u, *const v_ys = v_y;
        const T *const states = past, *const as = decays;
        T *const v_dts = v_dt, *const v_dts_u = v_dt_u, *const to_B = terms_B,
                 *const to_C = terms_C;
        Num v[Count], A[Count], v_A[Count], after[Count];
        for (int k = 0; k < Count; ++k) {
            v[k] = Num::load(v_h + (n + k) * P * W, W);
            A[k] = Num::load(stage.A + (n + k) * P * W, W);
            v_A[k] = Num{};
            after[k] = Num::load(states + (k * P * (STEPS + 1) + steps) * W, (STEPS + 1) * W);
        }
        for (int t = steps - 1; t >= 0; --t) {
            const Vec<T> dt = load<T>(dts + t * W), du = load<T>(dts_u + t * W);
            const Vec<T> cotangent = load<T>(v_ys + t * W);
            Vec<T> to_dt = load<T>(v_dts + t * W), to_du = load<T>(v_dts_u + t * W);
#pragma GCC unroll 8
            for (int k = 0; k < Count; ++k) {
                const int64_t at = (k * P * STEPS + t) * W;
                const Num before =
                    Num::load(states + (k * P * (STEPS + 1) + t) * W, (STEPS + 1) * W);
                const Num a = Num::load(as + at, STEPS * W);
                observe_vjp(after[k], cotangent).store(to_C + at, STEPS * W);  // (S7)
                const auto r = advance_vjp(a, before, cotangent, B.at(k, t), C.at(k, t), v[k]);
                scale(du, r.v_state).store(to_B + at, STEPS * W);  // (S7)
                v_A[k] = scale_add(dt, r.w, v_A[k]);
                to_dt += dot(A[k], r.w);
                to_du += r.v_dt_u;
                after[k] = before;
            }
            store<T>(v_dts + t * W, to_dt);
            store<T>(v_dts_u + t * W, to_du);
        }
        for (int k = 0; k < Count; ++k) {
            v[k].store(v_h + (n + k) * P * W, W);
            for (int c = 0; c < P; ++c) accumulate(channel.A + (n + k) * P + c, v_A[k].part[c]);
        }
    }

    // Sum the terms of v_B or v_C of `count` states: over time if constant, else over channels.
    void reduce(const Tile<T>& tile, Part part, const Projection& M, const RowSums<T>& to,
                int64_t row, int64_t n, int count, int64_t t0, int steps, const T* terms) {
        for (int64_t i = 0; i < count * P; ++i) {
            const T* x = terms + i * STEPS * W;
            if (M.constant) {
                Vec<T> s{};
                for (int t = 0; t < steps; ++t) s += load<T>(x + t * W);
                accumulate(row + n * P + i, s);
            } else if (to) {
                to.add(tile, plan, part.index, part.first, n * P + i, t0, steps, x);
            }
        }
    }

    template <bool Shared>
    void sub_tile(const Tile<T>& tile, Part part, int64_t t0, int steps) {
        const Vec<T> skip = p.D.p ? stage.lane_values(tile, p.D) : Vec<T>{};
        const bool with_y = p.z.p && p.grad.v_z.p;
        stage.stage_input(tile, t0, steps, dt_u, slope);
        stage_cotangent(tile, t0, steps, v_y);
        for (int t = 0; t < steps; ++t) {
            store<T>(y + t * W, p.D.p ? skip * load<T>(stage.u + t * W) : Vec<T>{});
            store<T>(v_dt + t * W, Vec<T>{});
            store<T>(v_dt_u + t * W, Vec<T>{});
        }
        for (int64_t n = 0; n < p.states;) {
            const int count = p.states - n >= BLOCK ? BLOCK : 1;
            const auto B = stage.template stage<Shared>(tile, p.B, stage.constant_B, stage.panels_B,
                                                        stage.B, n, count, t0, steps);
            const auto C = stage.template stage<Shared>(tile, p.C, stage.constant_C, stage.panels_C,
                                                        stage.C, n, count, t0, steps);
            if (count == BLOCK) {
                if (stage.bounded)
                    recompute<Shared, Range::bounded, BLOCK>(steps, n, B, C, with_y);
                else
                    recompute<Shared, Range::any, BLOCK>(steps, n, B, C, with_y);
                reverse<Shared, BLOCK>(steps, n, B, C);
            } else {
                recompute<Shared, Range::any, 1>(steps, n, B, C, with_y);
                reverse<Shared, 1>(steps, n, B, C);
            }
            reduce(tile, part, p.B, rows.B, channel.B, n, count, t0, steps, terms_B);
            reduce(tile, part, p.C, rows.C, channel.C, n, count, t0, steps, terms_C);
            n += count;
        }
        finish(tile, part, t0, steps, skip);
    }

    // From v_y, v_dt and v_dt_u to the cotangents of the arguments; overwrites the staged arrays.
    void finish(const Tile<T>& tile, Part part, int64_t t0, int steps, Vec<T> skip) {
        stage.mask(tile, t0, steps, v_dt);
        Vec<T> v_D{}, v_bias{};
        for (int t = 0; t < steps; ++t) {
            const Vec<T> u = load<T>(stage.u + t * W), dt = load<T>(stage.dt + t * W);
            const Vec<T> v = load<T>(v_y + t * W), to_du = load<T>(v_dt_u + t * W);
            Vec<T> v_s = load<T>(v_dt + t * W) + u * to_du;  // (S9)
            if (p.delta_softplus) v_s *= load<T>(slope + t * W);
            v_D += v * u;
            v_bias += v_s;
            store<T>(v_dt + t * W, v_s);
            store<T>(v_dt_u + t * W, p.D.p ? skip * v + dt * to_du : dt * to_du);
            if (p.z.p && p.grad.v_z.p) {
                const Vec<T> gate = load<T>(z + t * W), open = sigmoid<T>(gate);
                const Vec<T> slope_z = open * (T(1) + gate * (T(1) - open));
                store<T>(z + t * W, load<T>(v_out + t * W) * load<T>(y + t * W) * slope_z);
            }
        }
        accumulate(channel.D, v_D);
        accumulate(channel.bias, v_bias);
        add_sum<T>(tile, sum, t0, steps, v_dt_u, dt_u, stage.ahead);
        if (p.grad.v_u.p) scatter(tile, to_v_u, t0, steps, static_cast<const T*>(v_dt_u), true);
        if (p.grad.v_z.p) scatter(tile, p.grad.v_z, t0, steps, static_cast<const T*>(z));
        if (p.rank == 0) {
            if (p.grad.v_delta.p)
                scatter(tile, to_v_delta, t0, steps, static_cast<const T*>(v_dt), true);
        } else if (tile.one_segment) {
            finish_low_rank<true>(tile, part, t0, steps);
        } else {
            finish_low_rank<false>(tile, part, t0, steps);
        }
    }

    template <bool Shared>
    void finish_low_rank(const Tile<T>& tile, Part part, int64_t t0, int steps) {
        for (int64_t r = 0; r < p.rank; ++r) {
            const Vec<T> w = stage.weight(tile, r);
            stage.template stage_factors<Shared>(tile, r, 1, t0, steps);
            const T* const staged = stage.factors;
            Vec<T> v_w{};
            for (int t = 0; t < steps; ++t) {
                const Vec<T> v_s = load<T>(v_dt + t * W);
                v_w += v_s * Stage<T, X>::template factor<Shared>(staged, 0, t);
                store<T>(terms_B + t * W, w * v_s);
            }
            accumulate(channel.weight + r, v_w);
            if (rows.delta)
                rows.delta.add(tile, plan, part.index, part.first, r, t0, steps, terms_B);
        }
    }

    // All of one tile, from its last step to its first; v_h is set by the caller.
    template <bool Shared>
    void run(const Tile<T>& tile, Part part) {
        const int64_t size = p.states * P * W;
        for (int64_t i0 = (tile.longest - 1) / p.interval * p.interval; i0 >= 0; i0 -= p.interval) {
            const int64_t end = std::min(i0 + p.interval, tile.longest);
            take_checkpoint(tile, i0);
            int64_t t0 = i0;
            for (; t0 + STEPS < end; t0 += STEPS) {
                std::memcpy(boundary + (t0 - i0) / STEPS * size, h, size * sizeof(T));
                stage.stage_input(tile, t0, STEPS, dt_u);
                sweep_all<T, X, Shared, false>(stage, tile, t0, STEPS, dt_u, y, h);
            }
            for (; t0 >= i0; t0 -= STEPS) {
                sub_tile<Shared>(tile, part, t0,
                                 static_cast<int>(std::min<int64_t>(STEPS, end - t0)));
                if (t0 > i0)
                    std::memcpy(h, boundary + (t0 - i0 - STEPS) / STEPS * size, size * sizeof(T));
            }
        }
        flush(tile, to_v_u);
        flush(tile, to_v_delta);
        give_states<T, X>(p, tile, 0, p.grad.v_initial_state, v_h);
    }
};

}  // namespace ssno::SSNO_ISA
