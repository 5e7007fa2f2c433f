// SPDX-License-Identifier: MIT
// The state that each chunk of time starts from. A chunk maps the state before it to the one after
// it by h -> a h + b; both are found chunk by chunk in parallel, walking away from the chunk's far
// end, so that the walk can stop where the product of decays has died out. The adjoint is the same
// with time turned round, C for B and v_y for dt u.
#pragma once

#include "selective_scan/kernel_cpu_fwd.h"

namespace ssno::SSNO_ISA {

// `source`(tile, t0, steps, x) stages dt and writes dt u (v_y if Adjoint) to x.
template <class T, bool X, bool Adjoint>
struct Carry {
    static constexpr int W = Lanes<T>::W, P = X ? 2 : 1;
    const Params& p;
    const Plan& plan;
    const int64_t size;  // of one tile's states
    Buffer<T> product, state;

    Carry(const Params& params, const Plan& the_plan)
        : p(params),
          plan(the_plan),
          size(p.states * P * W),
          product(plan.tiles * size),
          state(plan.tiles * size) {}

    // State (cotangent) that tile `index` starts (ends) with; valid after `link`.
    const T* of(int64_t index) const { return state + index * size; }

    template <bool Shared, class Source>
    void walk(Stage<T, X>& stage, const Tile<T>& tile, int64_t index, T* x, const Source& source) {
        using Num = Number<T, X>;
        T* a = product + index * size;
        T* b = state + index * size;
        for (int64_t i = 0; i < size; ++i) {
            a[i] = i / W % P == 0 ? T(1) : T(0);
            b[i] = 0;
        }
        const int64_t tiles = (tile.longest + STEPS - 1) / STEPS;
        for (int64_t k = 0; k < tiles && alive(a, size); ++k) {
            const int64_t t0 = STEPS * (Adjoint ? k : tiles - 1 - k);
            const int steps = static_cast<int>(std::min<int64_t>(STEPS, tile.longest - t0));
            source(tile, t0, steps, x);
            for (int64_t n = 0; n < p.states; ++n) {
                if (!alive(a + n * P * W, P * W)) continue;  // most states die long before the last
                const auto M =
                    Adjoint
                        ? stage.template stage<Shared>(tile, p.C, stage.constant_C, stage.panels_C,
                                                       stage.C, n, 1, t0, steps)
                        : stage.template stage<Shared>(tile, p.B, stage.constant_B, stage.panels_B,
                                                       stage.B, n, 1, t0, steps);
                const auto rate = stage.rate_of(n);
                Num product_n = Num::load(a + n * P * W, W), sum = Num::load(b + n * P * W, W);
                for (int j = 0; j < steps; ++j) {
                    const int t = Adjoint ? j : steps - 1 - j;
                    const Num step = decay<Range::any>(load<T>(stage.dt + t * W), rate);
                    const Vec<T> s = load<T>(x + t * W);
                    if (Adjoint) {
                        product_n = conj_mul(step, product_n);
                        sum = sum + mul(product_n, observe_vjp(M.at(0, t), s));
                    } else {
                        sum = sum + mul(product_n, scale(s, M.at(0, t)));
                        product_n = mul(step, product_n);
                    }
                }
                product_n.store(a + n * P * W, W);
                sum.store(b + n * P * W, W);
            }
        }
    }

    // Whether any product could still matter; written so that NaN counts as alive.
    static bool alive(const T* a, int64_t count) {
        constexpr T NEGLIGIBLE = sizeof(T) == 8 ? T(1e-300) : T(1e-37);
        bool dead = true;
        for (int64_t i = 0; i < count; ++i) dead &= a[i] <= NEGLIGIBLE && a[i] >= -NEGLIGIBLE;
        return !dead;
    }

    // From each chunk's map to the state it starts from, chunk after chunk.
    void link(const States& outer) {
        parallel(p, p.batch * p.channels, [&](int64_t row) {
            const int64_t b = row / p.channels, d = row % p.channels;
            for (int64_t n = 0; n < p.states; ++n) {
                T now[2] = {0, 0};
                for (int c = 0; c < P && outer.p; ++c)
                    now[c] = static_cast<const T*>(
                        outer.p)[b * outer.b + d * outer.d + n * outer.n + c * outer.c];
                for (int64_t k = 0; k < plan.chunks; ++k) {
                    const int64_t i = place(b, d, Adjoint ? plan.chunks - 1 - k : k) + n * P * W;
                    const T re = product[i], im = X ? product[i + W] : T(0);
                    const T next[2] = {re * now[0] - im * now[1] + state[i],
                                       X ? re * now[1] + im * now[0] + state[i + W] : T(0)};
                    for (int c = 0; c < P; ++c) {
                        state[i + c * W] = now[c];
                        now[c] = next[c];
                    }
                }
            }
        });
    }

    // Offset of channel d of batch entry b in chunk c, of its state 0
    int64_t place(int64_t b, int64_t d, int64_t c) const {
        const int64_t segment = plan.segment(b, d / plan.per_run, c), i = d % plan.per_run;
        const int64_t tile = segment / plan.packed * plan.blocks + i / W;
        const int64_t lane = segment % plan.packed * plan.per_run + i % W;
        return tile * size + lane;
    }
};

}  // namespace ssno::SSNO_ISA
