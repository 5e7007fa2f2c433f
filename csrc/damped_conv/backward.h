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

// Where the sums of a channel lie: for each sweep (N, 2) of each of the ModeSums if chunks start
// from states, then the lags 0 .. chunk - 1.
struct SumsLayout {
    int64_t of_part, of_modes, of_sweep, all;
    SumsLayout(const Params& p, const Plan& plan)
        : of_part(plan.has_states ? 2 * p.modes : 0),
          of_modes(3 * of_part),
          of_sweep(of_modes + plan.chunk),
          all(p.sweeps * of_sweep) {}
};

template <class T>
struct Adjoint {
    static constexpr int W = Lanes<T>::W, COLS = COLUMNS<T>;
    const Params& p;
    const Plan& plan;
    const SumsLayout layout;
    const bool modes_wanted;
    const int64_t size, chunks;
    ChannelTables<T> tables;
    Buffer<T> U, V, Y, state, w, w_slope, r_slope, chains;
    Buffer<T> lanes;   // the sums, as lanes
    int64_t held = 0;  // steps in them
    T* chain[2];

    Adjoint(const Params& params, const Plan& the_plan)
        : p(params),
          plan(the_plan),
          layout(p, plan),
          modes_wanted(p.v_rate || p.v_coeff),
          size(plan.has_states ? 2 * p.modes * COLS : 0),
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
          lanes((layout.all + W) * W),
          chain{chains, chains + (p.sweeps - 1) * chunks * size} {
        std::memset(lanes, 0, (layout.all + W) * W * sizeof(T));
    }

    // `before` and `after`: the states that the sweeps and that their adjoints start from
    void run(const Tile<T>& tile, const Edges<T>& before, const Edges<T>& after, double* sums) {
        gather<T, COLS>(p, tile, p.v_out, V);
        if (modes_wanted || p.v_skip) gather<T, COLS>(p, tile, p.u, U);
        for (int s = 0; s < p.sweeps; ++s) {
            if (plan.has_states) walk(s, tile, before, after);
            if (modes_wanted || p.v_skip) add_lags(s, tile);
        }
        held += tile.length;
        if (held >= MOST_HELD) release(sums);
        if (p.v_u.p) write_outputs<T>(p, tables, tile, after.used, V, chain, Y, p.v_u);
    }

    // Empty the lanes into the sums: of many more terms they would lose digits.
    void release(double* sums) {
        for (int64_t i = 0; i < layout.all; i += W) {
            T part[W];
            sum_rows<T>(lanes + i * W, part);
            for (int64_t j = i; j < std::min(i + W, layout.all); ++j) sums[j] += part[j - i];
        }
        std::memset(lanes, 0, layout.all * W * sizeof(T));
        held = 0;
    }

  private:
    static constexpr int64_t MOST_HELD = 256;

    void walk(int s, const Tile<T>& tile, const Edges<T>& before, const Edges<T>& after) {
        const auto run = [&](const Walk<T>& walk, const Edges<T>& from, const T* X) {
            from.load(s, tile, state);
            run_walk<T>(walk, tile.length, plan.chunk, X, state, w, chain[s], false);
        };
        if (modes_wanted) {
            run(tables.sweep(s).reversed(), before, U);
            after.load(s, tile, state);
            walk_back(s, tile, before.used, after.used);
        } else if (p.v_u.p) {
            run(tables.sweep(s).walk(), after, V);
        }
    }
    T* sums_of(int s) const { return lanes + s * layout.of_sweep * W; }

    // Walk the adjoint; chain holds the sweep's states before, the adjoint's after.
    void walk_back(int s, const Tile<T>& tile, bool starts, bool ends) {
        const Walk<T> walk = tables.sweep(s).walk(), sweep = tables.sweep(s).reversed();
        const int64_t states = walk.states(), part = layout.of_part * W, bytes = size * sizeof(T);
        T* const to = sums_of(s);
        const ModeSums<T> sums{to, to + part, to + 2 * part};
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
                        sums_of(s) + layout.of_modes * W);
        });
    }
};

// From the sums of one channel to its cotangents
struct Cotangents {
    const Params& p;
    const Plan& plan;
    const SumsLayout layout;
    ModeLanes lanes;
    Buffer<double> near, near_slope;

    Cotangents(const Params& params, const Plan& the_plan)
        : p(params),
          plan(the_plan),
          layout(p, plan),
          lanes(p),
          near(lanes.size()),
          near_slope(lanes.size()) {}

    void write(int64_t channel, const double* sums) {
        if (p.v_skip) p.v_skip[channel] = sums[layout.of_modes];
        if (!p.v_rate && !p.v_coeff) return;
        for (int s = 0; s < p.sweeps; ++s, sums += layout.of_sweep) {
            lanes.read(p, s, channel);
            lanes.polynomials(sums + layout.of_modes, plan.chunk, near, near_slope);
            for (int64_t n = 0; n < p.modes; ++n) write_mode(s, channel, n, sums);
        }
    }

  private:
    void write_mode(int s, int64_t channel, int64_t n, const double* sums) const {
        const auto sum = [&](int64_t part) {
            const double* at = sums + part * layout.of_part + 2 * n;
            return plan.has_states ? Complex{at[0], at[1]} : Complex{};
        };
        const Complex lambda = lanes.number(lanes.lambda, n), coeff = lanes.number(lanes.coeff, n);
        const Complex Sw = lambda * sum(0), Sw_slope = lambda * sum(1);
        const Complex v_coeff = 2.0 * (Sw + lanes.number(near, n));
        const Complex v_rate = sum(2) + 2.0 * coeff * (Sw + Sw_slope + lanes.number(near_slope, n));
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
};

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
    const int64_t count = SumsLayout(p, plan).all;
    const bool shared = plan.groups > 1;
    const Buffer<double> parts(shared ? p.channels * plan.groups * count : 0);
    in_runs(p, p.channels * plan.groups, [&](int64_t begin, int64_t end) {
        Adjoint<T> work(p, plan);
        Cotangents cotangents(p, plan);
        const Buffer<double> own(shared ? 0 : count);
        over_groups(
            plan, begin, end, [&](int64_t channel, int64_t group, int64_t from, int64_t to) {
                double* sums = shared ? parts + (channel * plan.groups + group) * count : own;
                std::memset(sums, 0, count * sizeof(double));
                work.tables.fill(p, channel);
                for (int64_t index = from; index < to; ++index)
                    work.run(Tile<T>(p, plan, channel, index), before, after, sums);
                work.release(sums);
                if (!shared) cotangents.write(channel, own);
            });
    });
    if (!shared) return;
    in_runs(p, p.channels, [&](int64_t begin, int64_t end) {
        Cotangents cotangents(p, plan);
        for (int64_t channel = begin; channel < end; ++channel) {
            double* total = parts + channel * plan.groups * count;
            for (int64_t g = 1; g < plan.groups; ++g)
                for (int64_t i = 0; i < count; ++i) total[i] += total[g * count + i];
            cotangents.write(channel, total);
        }
    });
}

}  // namespace ssno::SSNO_ISA
