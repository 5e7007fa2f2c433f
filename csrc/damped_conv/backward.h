// SPDX-License-Identifier: MIT
// The cotangents. With h the states of a sweep, and q the states of its adjoint, which walks the
// other way and is driven by v_y (conjugates of the states' cotangents),
//     conj(v_coeff) = 2 sum_t v_y_t h_t        conj(v_rate) = lambda sum_t q_t h_{t-1}
// In a chunk of l steps, S the state before it in the sweep's order and P that in the adjoint's,
//     sum_t v_y_t h_t = lambda S w + sum_d m_d lambda^d
//     lambda sum_t q_t h_{t-1} = l S lambda^l P + 2 c lambda S (w + w') + P r' + 2 c sum_d d m_d
//     lambda^d
// where w = sum_e lambda^e v_y, w' = sum_e e lambda^e v_y, r' = sum_e e lambda^e u with e the steps
// still to come in the adjoint's and the sweep's order, and m_d = sum_t v_y_t u_{t-d}.
#pragma once

#include "damped_conv/forward.h"

namespace ssno::SSNO_ISA {

// Sums over columns and chunks: S w, S w', P r' + l S lambda^l P, each (N, 2, lanes)
template <class T>
struct ModeSums {
    T *Sw, *Sw_slope, *rest;
};

template <class T>
SSNO_INLINE void add_product(T* sum, Vec<T> a, Vec<T> b, Vec<T> x, Vec<T> y) {
    constexpr int W = Lanes<T>::W;
    store<T>(sum, load<T>(sum) + (a * x - b * y));
    store<T>(sum + W, load<T>(sum + W) + (a * y + b * x));
}

template <class T>
void add_chunk(const Walk<T>& adjoint, int64_t steps, const T* S, const T* P, const T* w,
               const T* w_slope, const T* r_slope, const ModeSums<T>& sums) {
    constexpr int W = Lanes<T>::W, COLS = COLUMNS<T>;
    const T* decay = adjoint.power + steps * adjoint.states();
    const T l = static_cast<T>(steps);
    for (int64_t n = 0; n < adjoint.modes; ++n)
        for (int v = 0; v < COLS; v += W) {
            const int64_t re = 2 * n * COLS + v, im = re + COLS, to = 2 * n * W;
            const Vec<T> a = load<T>(S + re), b = load<T>(S + im);
            const Vec<T> x = load<T>(P + re), y = load<T>(P + im);
            const T d = l * decay[2 * n], e = l * decay[2 * n + 1];
            add_product<T>(sums.Sw + to, a, b, load<T>(w + re), load<T>(w + im));
            add_product<T>(sums.Sw_slope + to, a, b, load<T>(w_slope + re), load<T>(w_slope + im));
            add_product<T>(sums.rest + to, x, y, load<T>(r_slope + re) + (d * a - e * b),
                           load<T>(r_slope + im) + (d * b + e * a));
        }
}

// What the tiles of a group add up to, in double precision: for each sweep (N, 2) of each of the
// ModeSums, then the lags 0 .. chunk - 1.
struct GroupSums {
    int64_t of_modes, of_sweep, of_group, groups;
    Buffer<double> sums;
    GroupSums(const Params& p, const Plan& plan)
        : of_modes(6 * p.modes),
          of_sweep(of_modes + plan.chunk),
          of_group(p.sweeps * of_sweep),
          groups(plan.groups),
          sums(p.channels * groups * of_group) {
        std::memset(sums, 0, p.channels * groups * of_group * sizeof(double));
    }

    double* of(int64_t channel, int64_t group) const {
        return sums + (channel * groups + group) * of_group;
    }
    double total(int64_t channel, int64_t i) const {
        double sum = 0;
        for (int64_t g = 0; g < groups; ++g) sum += sums[(channel * groups + g) * of_group + i];
        return sum;
    }
    Complex number(int64_t channel, int64_t i) const {
        return {total(channel, i), total(channel, i + 1)};
    }
};

template <class T>
struct Adjoint {
    static constexpr int W = Lanes<T>::W, COLS = COLUMNS<T>;
    const Params& p;
    const Plan& plan;
    const bool modes_wanted;
    const int64_t size, chunks;
    ChannelTables<T> tables;
    Buffer<T> U, V, Y, state, w, w_slope, r_slope, chains, lanes;
    T* chain[2];

    Adjoint(const Params& params, const Plan& the_plan)
        : p(params),
          plan(the_plan),
          modes_wanted(p.v_rate || p.v_coeff),
          size(2 * p.modes * COLS),
          chunks((plan.longest + plan.chunk - 1) / plan.chunk),
          tables(p, plan, true, modes_wanted),
          U(plan.longest * COLS),
          V(plan.longest * COLS),
          Y(plan.chunk * COLS),
          state(size),
          w(size),
          w_slope(size),
          r_slope(size),
          chains(p.sweeps * chunks * size),
          lanes((6 * p.modes + plan.chunk) * W),
          chain{chains, chains + (p.sweeps - 1) * chunks * size} {}

    // `before` and `after`: the states that the sweeps and that their adjoints start from
    void run(const Tile<T>& tile, const Edges<T>& before, const Edges<T>& after, double* sums,
             int64_t of_sweep) {
        gather<T, COLS>(p, tile, p.v_out, V);
        if (modes_wanted || p.v_skip) gather<T, COLS>(p, tile, p.u, U);
        for (int s = 0; s < p.sweeps; ++s) {
            std::memset(lanes, 0, (6 * p.modes + plan.chunk) * W * sizeof(T));
            if (modes_wanted) {
                before.load(s, tile, state);
                run_walk<T>(tables.sweep(s).reversed(), tile.length, plan.chunk, U, state, w,
                            chain[s], false);
                after.load(s, tile, state);
                walk_back(s, tile, before.used, after.used);
            } else if (p.v_u.p) {
                after.load(s, tile, state);
                run_walk<T>(tables.sweep(s).walk(), tile.length, plan.chunk, V, state, w, chain[s],
                            false);
            }
            if (modes_wanted || p.v_skip) add_lags(s, tile);
            for (int64_t i = 0; i < 6 * p.modes + plan.chunk; ++i)
                for (int lane = 0; lane < W; ++lane) sums[s * of_sweep + i] += lanes[i * W + lane];
        }
        if (p.v_u.p) write_outputs<T>(p, tables, tile, after.used, V, chain, Y, p.v_u);
    }

  private:
    // Walk the adjoint; chain holds the sweep's states before, the adjoint's after.
    void walk_back(int s, const Tile<T>& tile, bool starts, bool ends) {
        const Walk<T> walk = tables.sweep(s).walk(), sweep = tables.sweep(s).reversed();
        const int64_t states = walk.states(), part = states * W, bytes = size * sizeof(T);
        const ModeSums<T> sums{lanes, lanes + part, lanes + 2 * part};
        bool has_P = ends;
        over_chunks(
            tile.length, plan.chunk, walk.from_end,
            [&](int64_t c, int64_t t0, int64_t steps, bool last) {
                const T *u = U + t0 * COLS, *v = V + t0 * COLS;
                const bool has_S = starts || !last;
                if (has_S) {
                    product<T>(walk.inject(walk.power, steps), states, steps, v, w, false);
                    product<T>(walk.inject(walk.slope, steps), states, steps, v, w_slope, false);
                } else {
                    std::memset(w, 0, bytes);
                    std::memset(w_slope, 0, bytes);
                }
                if (has_P)
                    product<T>(sweep.inject(walk.slope, steps), states, steps, u, r_slope, false);
                else
                    std::memset(r_slope, 0, bytes);
                T* S = chain[s] + c * size;
                if (has_S || has_P) add_chunk<T>(walk, steps, S, state, w, w_slope, r_slope, sums);
                std::memcpy(S, state, bytes);
                if (!last) advance<T>(walk, steps, state, w);
                has_P = true;
            });
    }

    void add_lags(int s, const Tile<T>& tile) {
        const int64_t count = modes_wanted ? plan.chunk : 1;
        const T* later = p.from_end[s] ? U : V;
        const T* earlier = p.from_end[s] ? V : U;
        over_chunks(tile.length, plan.chunk, false, [&](int64_t, int64_t t0, int64_t steps, bool) {
            lag_sums<T>(std::min(count, steps), steps, later + t0 * COLS, earlier + t0 * COLS,
                        lanes + 6 * p.modes * W);
        });
    }
};

// From the sums to the cotangents of one channel
inline void write_cotangents(const Params& p, const Plan& plan, const GroupSums& sums,
                             int64_t channel) {
    if (p.v_skip) p.v_skip[channel] = sums.total(channel, sums.of_modes);
    for (int s = 0; s < p.sweeps && (p.v_rate || p.v_coeff); ++s) {
        const int64_t of_sweep = s * sums.of_sweep;
        const Buffer<double> lags(plan.chunk);
        for (int64_t d = 0; d < plan.chunk; ++d)
            lags[d] = sums.total(channel, of_sweep + sums.of_modes + d);
        for (int64_t n = 0; n < p.modes; ++n) {
            const Mode m(p, s, channel, n);
            const int64_t i = of_sweep + 2 * n;
            const Complex Sw = m.lambda * sums.number(channel, i);
            const Complex Sw_slope = m.lambda * sums.number(channel, i + 2 * p.modes);
            Complex z{1}, near, near_slope;
            for (int64_t d = 0; d < plan.chunk; ++d) {
                near = near + lags[d] * z;
                near_slope = near_slope + static_cast<double>(d) * lags[d] * z;
                z = z * m.lambda;
            }
            const Complex v_coeff = 2.0 * (Sw + near);
            const Complex v_rate = sums.number(channel, i + 4 * p.modes) +
                                   2.0 * m.coeff * (Sw + Sw_slope + near_slope);
            const int64_t to = 2 * ((s * p.channels + channel) * p.modes + n);
            if (p.v_coeff) {
                p.v_coeff[to] = v_coeff.re;
                p.v_coeff[to + 1] = -v_coeff.im;
            }
            if (p.v_rate) {
                p.v_rate[to] = v_rate.re;
                p.v_rate[to + 1] = -v_rate.im;
            }
        }
    }
}

template <class T>
void differentiate(const Params& p) {
    const bool sums_wanted = p.v_rate || p.v_coeff || p.v_skip;
    if (!sums_wanted) return apply<T>(p, true, p.v_out, p.v_u);
    const Plan plan = make_plan(p, COLUMNS<T>, sizeof(T));
    Params sweep = p;
    sweep.final_state = {};
    const Edges<T> before(sweep, plan, false), after(p, plan, true);
    find_edges<T>(sweep, plan, before, p.u);
    find_edges<T>(p, plan, after, p.v_out);
    GroupSums sums(p, plan);
    in_runs(p, p.channels * plan.groups, [&](int64_t begin, int64_t end) {
        Adjoint<T> work(p, plan);
        over_groups(plan, begin, end,
                    [&](int64_t channel, int64_t group, int64_t from, int64_t to) {
                        work.tables.fill(p, channel);
                        for (int64_t index = from; index < to; ++index)
                            work.run(Tile<T>(p, plan, channel, index), before, after,
                                     sums.of(channel, group), sums.of_sweep);
                    });
    });
    parallel(p, p.channels, [&](int64_t i) { write_cotangents(p, plan, sums, i); });
}

}  // namespace ssno::SSNO_ISA
