// SPDX-License-Identifier: MIT
// The operator, or its transpose, on all tiles: y = K x within each chunk, plus what the states
// before it contribute.
#pragma once

#include "damped_conv/states.h"

namespace ssno::SSNO_ISA {

// From the states before the chunks of a tile (S, chunk, N, 2, columns) to its outputs
template <class T>
void write_outputs(const Params& p, const ChannelTables<T>& tables, const Tile<T>& tile,
                   bool has_states, const T* X, const T* const* chain, T* Y, const Array& out) {
    constexpr int COLS = COLUMNS<T>;
    const int64_t chunks = (tile.length + tables.chunk - 1) / tables.chunk;
    over_chunks(tile.length, tables.chunk, false, [&](int64_t c, int64_t t0, int64_t steps, bool) {
        toeplitz<T>(tables.lag_zero(), tables.past, tables.future, steps, X + t0 * COLS, Y);
        for (int s = 0; s < p.sweeps; ++s) {
            const Walk<T> walk = tables.sweep(s).walk();
            if (!has_states && c == (walk.from_end ? chunks - 1 : 0)) continue;
            product<T>(walk.output(steps), steps, walk.states(),
                       chain[s] + c * walk.states() * COLS, Y, true);
        }
        scatter<T, COLS>(p, tile, out, t0, steps, Y);
    });
}

template <class T>
void apply(const Params& p, bool adjoint, const Array& in, const Array& out) {
    constexpr int COLS = COLUMNS<T>;
    const Plan plan = make_plan(p, COLS, sizeof(T));
    const Edges<T> edges(p, plan, adjoint);
    find_edges<T>(p, plan, edges, in);
    if (!out.p) return;
    const int64_t size = plan.has_states ? 2 * p.modes * COLS : 0;
    const int64_t chunks = (plan.longest + plan.chunk - 1) / plan.chunk;
    in_runs(p, p.channels * plan.groups, [&](int64_t begin, int64_t end) {
        ChannelTables<T> tables(p, plan, adjoint, false);
        Buffer<T> X(plan.longest * COLS), Y(plan.chunk * COLS), state(size), more(size);
        Buffer<T> chains(p.sweeps * chunks * size);
        const T* const chain[2] = {chains, chains + (p.sweeps - 1) * chunks * size};
        over_groups(plan, begin, end, [&](int64_t channel, int64_t, int64_t from, int64_t to) {
            tables.fill(p, channel);
            for (int64_t index = from; index < to; ++index) {
                const Tile<T> tile(p, plan, channel, index);
                gather<T, COLS>(p, tile, in, X);
                for (int s = 0; s < p.sweeps && plan.has_states; ++s) {
                    edges.load(s, tile, state);
                    run_walk<T>(tables.sweep(s).walk(), tile.length, plan.chunk, X, state, more,
                                const_cast<T*>(chain[s]), false);
                }
                write_outputs<T>(p, tables, tile, edges.used, X, chain, Y, out);
            }
        });
    });
}

}  // namespace ssno::SSNO_ISA
