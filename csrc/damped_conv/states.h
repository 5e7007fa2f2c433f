// SPDX-License-Identifier: MIT
// Walks over the chunks of a tile, and the states that segments start from.
#pragma once

#include "damped_conv/modes.h"

namespace ssno::SSNO_ISA {

// state = lambda^steps state + scale more, all (N, 2, columns)
template <class T>
void advance(const Walk<T>& walk, int64_t steps, T* state, const T* more) {
    constexpr int W = Lanes<T>::W, COLS = COLUMNS<T>;
    const T* decay = walk.power + steps * walk.states();
    for (int64_t n = 0; n < walk.modes; ++n)
        for (int v = 0; v < COLS; v += W) {
            T* re = state + 2 * n * COLS + v;
            T* im = re + COLS;
            const T* from = more + 2 * n * COLS + v;
            Vec<T> x = load<T>(from), y = load<T>(from + COLS);
            if (walk.scale) {
                const T a = walk.scale[2 * n], b = walk.scale[2 * n + 1];
                const Vec<T> scaled = a * x - b * y;
                y = a * y + b * x;
                x = scaled;
            }
            const Vec<T> r = load<T>(re), i = load<T>(im);
            const T a = decay[2 * n], b = decay[2 * n + 1];
            store<T>(re, x + a * r - b * i);
            store<T>(im, y + a * i + b * r);
        }
}

// Chunks of a tile in the order of a walk: visit(index, first step, steps, whether it is the last).
template <class F>
SSNO_INLINE void over_chunks(int64_t length, int64_t chunk, bool from_end, F visit) {
    const int64_t count = (length + chunk - 1) / chunk;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t c = from_end ? count - 1 - i : i;
        visit(c, c * chunk, std::min(chunk, length - c * chunk), i == count - 1);
    }
}

// Walk over a tile of samples X; `state` is advanced to the end of the walk if `to_end`. The state
// before each chunk is kept in chain[chunk] unless that is null.
template <class T>
void run_walk(const Walk<T>& walk, int64_t length, int64_t chunk, const T* X, T* state, T* more,
              T* chain, bool to_end) {
    constexpr int COLS = COLUMNS<T>;
    const int64_t size = walk.states() * COLS;
    over_chunks(length, chunk, walk.from_end, [&](int64_t c, int64_t t0, int64_t steps, bool last) {
        if (chain) std::memcpy(chain + c * size, state, size * sizeof(T));
        if (last && !to_end) return;
        product<T>(walk.inject(walk.power, steps), walk.states(), steps, X + t0 * COLS, more,
                   false);
        advance<T>(walk, steps, state, more);
    });
}

// The states between segments, (S, H, segment, row, N, 2). First each segment's own contribution to
// the state at its end, then, by `link`, the state that it starts from. An adjoint walk carries the
// conjugate of the cotangent of the state.
template <class T>
struct Edges {
    const Params& p;
    const Plan& plan;
    const bool adjoint, used, needs_ends;
    const Array &initial, &final;
    Buffer<T> at;

    Edges(const Params& params, const Plan& the_plan, bool is_adjoint)
        : p(params),
          plan(the_plan),
          adjoint(is_adjoint),
          used(plan.segments > 1 || p.periodic || start().p || end().p),
          needs_ends(plan.segments > 1 || p.periodic || end().p),
          initial(start()),
          final(end()),
          at(used ? p.sweeps * p.channels * plan.segments * p.rows * 2 * p.modes : 0) {}

    const Array& start() const { return adjoint ? p.v_final_state : p.initial_state; }
    const Array& end() const { return adjoint ? p.v_initial_state : p.final_state; }

    T* place(int sweep, int64_t channel, int64_t segment, int64_t row) const {
        return at + (((sweep * p.channels + channel) * plan.segments + segment) * p.rows + row) *
                        2 * p.modes;
    }
    void load(int sweep, const Tile<T>& tile, T* state) const {
        constexpr int COLS = COLUMNS<T>;
        std::memset(state, 0, 2 * p.modes * COLS * sizeof(T));
        if (!used) return;
        tile.over_columns(p, [&](int i, int64_t row, int64_t segment) {
            const T* from = place(sweep, tile.channel, segment, row);
            for (int64_t n = 0; n < 2 * p.modes; ++n) state[n * COLS + i] = from[n];
        });
    }
    void store(int sweep, const Tile<T>& tile, const T* state) const {
        tile.over_columns(p, [&](int i, int64_t row, int64_t segment) {
            T* to = place(sweep, tile.channel, segment, row);
            for (int64_t n = 0; n < 2 * p.modes; ++n) to[n] = state[n * COLUMNS<T> + i];
        });
    }

    // One sweep of one channel, in double precision
    void link(int sweep, int64_t channel) const {
        const bool from_end = p.from_end[sweep] != adjoint;
        const int64_t length = p.length;
        Buffer<Complex> decay(plan.segments * p.modes), closure(p.modes);
        for (int64_t n = 0; n < p.modes; ++n) {
            const Complex rate = Mode(p, sweep, channel, n).rate;
            closure[n] = inverse(decayed_over(rate, static_cast<double>(length)));
            for (int64_t k = 0; k < plan.segments; ++k)
                decay[k * p.modes + n] =
                    decay_over(rate, static_cast<double>(plan.segment(k).second));
        }
        auto walk = [&](int64_t row, int64_t n, Complex state, bool keep) {
            for (int64_t i = 0; i < plan.segments; ++i) {
                const int64_t k = from_end ? plan.segments - 1 - i : i;
                T* edge = place(sweep, channel, k, row) + 2 * n;
                const Complex more = needs_ends ? Complex{edge[0], edge[1]} : Complex{};
                if (keep) {
                    edge[0] = static_cast<T>(state.re);
                    edge[1] = static_cast<T>(state.im);
                }
                state = decay[k * p.modes + n] * state + more;
            }
            return state;
        };
        for (int64_t row = 0; row < p.rows; ++row)
            for (int64_t n = 0; n < p.modes; ++n) {
                Complex state = outer(initial, sweep, channel, row, n);
                if (p.periodic) state = (walk(row, n, {}, false) + state) * closure[n];
                state = walk(row, n, state, true);
                if (final.p) {
                    T* to = outer_place(final, sweep, channel, row, n);
                    to[0] = static_cast<T>(state.re);
                    to[final.part] = static_cast<T>(adjoint ? -state.im : state.im);
                }
            }
    }

  private:
    T* outer_place(const Array& a, int sweep, int64_t channel, int64_t row, int64_t n) const {
        return static_cast<T*>(a.p) + row_offset(p, a, row) + sweep * a.sweep +
               channel * a.channel + n * a.step;
    }
    Complex outer(const Array& a, int sweep, int64_t channel, int64_t row, int64_t n) const {
        if (!a.p) return {};
        const T* from = outer_place(a, sweep, channel, row, n);
        return {from[0], adjoint ? -from[a.part] : from[a.part]};
    }
};

// Tasks are the groups of tiles of each channel; body(channel, group, first tile, last tile).
template <class F>
void over_groups(const Plan& plan, int64_t begin, int64_t end, F body) {
    for (int64_t task = begin; task < end; ++task) {
        const int64_t group = task % plan.groups;
        body(task / plan.groups, group, plan.tiles * group / plan.groups,
             plan.tiles * (group + 1) / plan.groups);
    }
}

// Find the states that all segments start from; the samples are those of u, or of v_out.
template <class T>
void find_edges(const Params& p, const Plan& plan, const Edges<T>& edges, const Array& samples) {
    constexpr int COLS = COLUMNS<T>;
    if (!edges.used) return;
    if (edges.needs_ends)
        in_runs(p, p.channels * plan.groups, [&](int64_t begin, int64_t end) {
            ChannelTables<T> tables(p, plan, edges.adjoint, false);
            Buffer<T> X(plan.longest * COLS), state(2 * p.modes * COLS), more(2 * p.modes * COLS);
            over_groups(plan, begin, end, [&](int64_t channel, int64_t, int64_t from, int64_t to) {
                tables.fill(p, channel);
                for (int64_t index = from; index < to; ++index) {
                    const Tile<T> tile(p, plan, channel, index);
                    gather<T, COLS>(p, tile, samples, X);
                    for (int s = 0; s < p.sweeps; ++s) {
                        std::memset(state, 0, 2 * p.modes * COLS * sizeof(T));
                        run_walk<T>(tables.sweep(s).walk(), tile.length, plan.chunk, X, state, more,
                                    nullptr, true);
                        edges.store(s, tile, state);
                    }
                }
            });
        });
    parallel(p, p.sweeps * p.channels,
             [&](int64_t i) { edges.link(static_cast<int>(i / p.channels), i % p.channels); });
}

}  // namespace ssno::SSNO_ISA
