// SPDX-License-Identifier: MIT
// Backward kernels of the selective scan; labels are those of the docstring of
// ssno_kernels.selective_scan.
//
// A tile of steps is swept three times: forward, keeping the state before every Q-th step in shared
// memory; forward again over Q steps, the latest first, now keeping their states and decays in
// registers; and backward over them. Adjoint states and partial sums pass from tile to tile through
// memory. The products of v_B and v_C are summed over a warp's rows every F steps, over the block's
// warps every Q.
#pragma once

#include "selective_scan/adjoint_cuda.h"
#include "selective_scan/columns_cuda.h"

namespace ssno::cuda {

// The state before the tile at t0, which an earlier pass over its interval saved
template <class K>
SSNO_DEVICE States tile_state(const Scan& scan, const Unit& unit, int64_t t0) {
    using T = typename K::T;
    const int64_t tile = (t0 % scan.interval >> scan.log_steps) - 1;
    const int64_t rows = scan.threads / K::S, size = scan.states * K::PARTS * rows;
    T* p = static_cast<T*>(scan.tile_states) + (block_number() * scan.tiles + tile) * size;
    return {p + unit.row - unit.d, 0, 1, rows * K::PARTS, rows};  // by rows, not channels
}

template <class K>
SSNO_DEVICE States state_before(const Scan& scan, const Unit& unit, int64_t t0) {
    using T = typename K::T;
    const int64_t now = unit.start(scan, unit.k) + t0;
    if (now == 0) return scan.initial;
    if (t0 % scan.interval != 0) return tile_state<K>(scan, unit, t0);
    T* p = static_cast<T*>(scan.checkpoints) + unit.b * scan.checkpoints_stride;
    return plane_of<K>(scan, p, now / scan.interval - 1);
}

// A tile of (S3); if `keep`, the states before every Q-th step are kept, and y too for a gate.
// Steps that do not exist change nothing: dt, x and v_y are zero there.
template <class K, bool Constant>
SSNO_DEVICE void recompute(const Scan& scan, const Unit& unit, int steps, bool keep,
                           const Rates<K>& rate, Numbers<K>& h) {
    using T = typename K::T;
    const int row = row_at<K>(scan, unit.k, unit.c);
    const Walk<K, Constant> walk_B(scan, unit, scan.B), walk_C(scan, unit, scan.C);
    const bool observed = keep && scan.row[V_Z].p != nullptr;
    for (int t = 0; t < steps; t += F) {
        if (keep && t % Q == 0)
            put_numbers<K>(shared<T>(scan.at.states), t / Q * scan.threads + thread(), h);
        T dt[F], x[F];
        get(shared<T>(scan.at.dt), row + t, dt);
        get(shared<T>(scan.at.x), row + t, x);
        Numbers<K> B;
        if (!observed) {
#pragma unroll
            for (int q = 0; q < F; ++q) {
                load_numbers<K>(shared<T>(scan.at.B), walk_B(t + q), B);
#pragma unroll
                for (int i = 0; i < K::NT; ++i)
                    h[i] = advance(decay<Range::any>(dt[q], rate[i]), h[i], x[q], B[i]);
            }
            continue;
        }
        T y[F] = {}, mine[F / K::S];
#pragma unroll
        for (int q = 0; q < F; ++q) {
            Numbers<K> C;
            load_numbers<K>(shared<T>(scan.at.B), walk_B(t + q), B);
            load_numbers<K>(shared<T>(scan.at.C), walk_C(t + q), C);
#pragma unroll
            for (int i = 0; i < K::NT; ++i) {
                h[i] = advance(decay<Range::any>(dt[q], rate[i]), h[i], x[q], B[i]);
                y[q] += observe(C[i], h[i]);
            }
        }
        sum_lanes<K::S>(y);
#pragma unroll
        for (int i = 0; i < F / K::S; ++i) mine[i] = y[i];
        accumulate(shared<T>(scan.at.y), row + t + unit.s * (F / K::S), mine);
    }
}

// What a thread keeps of Q steps: their decays and the states before them
template <class K>
struct Window {
    Numbers<K> a[Q], before[Q];
};

// The Q steps of a tile from step t on: their decays and states; h is left after the last.
template <class K, bool Constant>
SSNO_DEVICE void open(const Scan& scan, const Unit& unit, int t, const Rates<K>& rate,
                      Window<K>& window, Numbers<K>& h) {
    using T = typename K::T;
    const int row = row_at<K>(scan, unit.k, unit.c);
    const Walk<K, Constant> walk(scan, unit, scan.B);
    load_numbers<K>(shared<T>(scan.at.states),
                    (t / Q * scan.threads + thread()) * (K::NT * K::PARTS), h);
    T dt[Q], x[Q];
    get(shared<T>(scan.at.dt), row + t, dt);
    get(shared<T>(scan.at.x), row + t, x);
#pragma unroll
    for (int q = 0; q < Q; ++q) {
        Numbers<K> B;
        load_numbers<K>(shared<T>(scan.at.B), walk(t + q), B);
#pragma unroll
        for (int i = 0; i < K::NT; ++i) {
            window.a[q][i] = decay<Range::any>(dt[q], rate[i]);
            window.before[q][i] = h[i];
            h[i] = advance(window.a[q][i], h[i], x[q], B[i]);
        }
    }
}

// Re(conj(A) w) of the A that a rate was made of, over log 2
template <class T>
SSNO_DEVICE T rate_dot(const Rate<T, false>& rate, const Real<T>& w) {
    return rate.part[0] * w.part[0];
}
template <class T>
SSNO_DEVICE T rate_dot(const Rate<T, true>& rate, const Cplx<T>& w) {
    constexpr double QUARTER = 1.57079632679489661923 * LOG2_E;
    return rate.part[0] * w.part[0] + T(QUARTER) * rate.part[1] * w.part[1];
}

// (S6) to (S9) over the Q steps from step t on, the last first
template <class K, bool Constant>
SSNO_DEVICE void retreat(const Scan& scan, const Unit& unit, int t, const Rates<K>& rate,
                         const Window<K>& window, Numbers<K>& h, Numbers<K>& v_h, Numbers<K>& v_A) {
    using T = typename K::T;
    const int row = row_at<K>(scan, unit.k, unit.c);
    const Walk<K, Constant> walk_B(scan, unit, scan.B), walk_C(scan, unit, scan.C);
    const Shared<T> products = shared<T>(scan.at.products) + warp() * Products<K>::SIZE;
    T v_dt[Q] = {}, v_x[Q] = {}, mine[Q / K::S];
#pragma unroll
    for (int q0 = Q - F; q0 >= 0; q0 -= F) {
        T dt[F], x[F], v_y[F];
        get(shared<T>(scan.at.dt), row + t + q0, dt);
        get(shared<T>(scan.at.x), row + t + q0, x);
        get(shared<T>(scan.at.v_y), row + t + q0, v_y);
#pragma unroll
        for (int j = F - 1; j >= 0; --j) {
            const int q = q0 + j;
            Numbers<K> B, C, for_B, for_C;
            load_numbers<K>(shared<T>(scan.at.B), walk_B(t + q), B);
            load_numbers<K>(shared<T>(scan.at.C), walk_C(t + q), C);
#pragma unroll
            for (int i = 0; i < K::NT; ++i) {
                const auto& before = window.before[q][i];
                const auto r = advance_vjp(window.a[q][i], before, v_y[j], B[i], C[i], v_h[i]);
                for_C[i] = observe_vjp(h[i], v_y[j]);
                for_B[i] = scale(x[j], r.v_state);
                v_A[i] = scale_add(dt[j], r.w, v_A[i]);
                v_dt[q] += rate_dot(rate[i], r.w);
                v_x[q] += r.v_dt_u;
                h[i] = before;
            }
            put_numbers<K>(products + 2 * j * Products<K>::PITCH, lane(), for_B);
            put_numbers<K>(products + (2 * j + 1) * Products<K>::PITCH, lane(), for_C);
        }
        sum_products<K, Constant>(scan, q0);
    }
    sum_lanes<K::S>(v_dt);
    sum_lanes<K::S>(v_x);
#pragma unroll
    for (int i = 0; i < Q / K::S; ++i) mine[i] = T(1 / LOG2_E) * v_dt[i];
    accumulate(shared<T>(scan.at.v_dt), row + t + unit.s * (Q / K::S), mine);
#pragma unroll
    for (int i = 0; i < Q / K::S; ++i) mine[i] = v_x[i];
    accumulate(shared<T>(scan.at.v_x), row + t + unit.s * (Q / K::S), mine);
}

template <class K>
SSNO_DEVICE void add_states(const Scan& scan, const Unit& unit, const Mine<K>& mine, void* sums,
                            int64_t chunk, const Numbers<K>& x, bool first) {
    const States to = plane_of<K>(scan, sums, chunk);
#pragma unroll
    for (int i = 0; i < K::NT; ++i)
#pragma unroll
        for (int c = 0; c < K::PARTS; ++c)
            if (mine.has(scan, unit, i))
                add_part(to.p, (mine.n + i) * to.n + c * to.c + unit.d, x[i].part[c], first);
}

// The steps of a tile, forward and backward
template <class K, bool Constant>
SSNO_DEVICE void sweep_steps(const Scan& scan, const Unit& unit, int64_t t0, int64_t n0,
                             const Rates<K>& rate, Numbers<K>& h, Numbers<K>& v_h,
                             Numbers<K>& v_A) {
    const int steps = steps_of(scan, unit.k), longest = steps_of(scan, 0);
    recompute<K, Constant>(scan, unit, steps, true, rate, h);
    for (int t = (longest - 1) / Q * Q; t >= 0; t -= Q) {
        if (t < steps) {
            Window<K> window;
            open<K, Constant>(scan, unit, t, rate, window, h);
            retreat<K, Constant>(scan, unit, t, rate, window, h, v_h, v_A);
        }
        sync_block();
        write_columns<K>(scan, unit, n0, t0, t);
        sync_block();
    }
}

// One tile of steps, from t0 of the chunk on, for the states from n0 on
template <class K>
SSNO_DEVICE void sweep_states(const Scan& scan, const Unit& unit, int64_t t0, int64_t n0) {
    using T = typename K::T;
    const bool first = unit.is_last(scan, unit.k, t0);
    const Mine<K> mine(unit, n0);
    const int steps = steps_of(scan, unit.k);
    const int64_t chunk = unit.b * scan.chunks + unit.chunk(unit.k);
    const int64_t now = unit.start(scan, unit.k) + t0;
    stage_plane<K>(scan, unit, scan.B, ALONG_B, n0, shared<T>(scan.at.B));
    stage_plane<K>(scan, unit, scan.C, ALONG_C, n0, shared<T>(scan.at.C));
    Numbers<K> h, v_h, v_A;
    Rates<K> rate;
    const Shared<T> constants = shared<T>(scan.at.constants);
    const bool constant = scan.B.constant || scan.C.constant;
    if (constant)
        for (int i = 0; i < 2 * K::NT * K::PARTS; ++i)
            constants.store(i / (K::NT * K::PARTS) * scan.threads * K::NT * K::PARTS +
                                thread() * K::NT * K::PARTS + i % (K::NT * K::PARTS),
                            T(0));
    if (steps > 0) {
        load_rates<K>(scan, unit, mine, rate);
        load_states<K>(scan, unit, mine, state_before<K>(scan, unit, t0), h);
        load_states<K>(
            scan, unit, mine,
            first && scan.chunks == 1 ? scan.final : plane_of<K>(scan, scan.carried.state, chunk),
            v_h);
    }
#pragma unroll
    for (int i = 0; i < K::NT; ++i) v_A[i] = {};
    sync_block();
    if (constant)
        sweep_steps<K, true>(scan, unit, t0, n0, rate, h, v_h, v_A);
    else
        sweep_steps<K, false>(scan, unit, t0, n0, rate, h, v_h, v_A);
    if (steps == 0) return;
    if (scan.v_A != nullptr) add_states<K>(scan, unit, mine, scan.v_A, chunk, v_A, first);
    for (int which = 0; which < 2 && constant; ++which) {
        void* const out = which == 0 ? scan.v_B : scan.v_C;
        if (out == nullptr || !(which == 0 ? scan.B : scan.C).constant) continue;
        load_numbers<K>(constants, (which * scan.threads + thread()) * K::NT * K::PARTS, v_A);
        add_states<K>(scan, unit, mine, out, chunk, v_A, first);
    }
    if (now == 0 && scan.v_initial.p != nullptr)
        store_states<K>(scan, unit, mine, scan.v_initial, v_h);
    store_states<K>(scan, unit, mine, plane_of<K>(scan, scan.carried.state, chunk), v_h);
}

// The states before the tiles of an interval, but for its first, from t0 on
template <class K>
SSNO_DEVICE void save_tile_states(const Scan& scan, const Unit& unit, int64_t t0, int64_t stop) {
    using T = typename K::T;
    const int64_t tile = int64_t(1) << scan.log_steps;
    for (; t0 + tile < stop; t0 += tile) {
        fill_table(scan, unit, t0, true);
        sync_block();
        stage_adjoint<K>(scan, unit, true);
        const int steps = steps_of(scan, unit.k);
        for (int64_t n0 = 0; n0 < scan.states; n0 += K::TILE) {
            const Mine<K> mine(unit, n0);
            stage_plane<K>(scan, unit, scan.B, ALONG_B, n0, shared<T>(scan.at.B));
            sync_block();
            if (steps == tile) {
                Numbers<K> h;
                Rates<K> rate;
                load_rates<K>(scan, unit, mine, rate);
                load_states<K>(scan, unit, mine, state_before<K>(scan, unit, t0), h);
                recompute<K, true>(scan, unit, steps, false, rate, h);
                store_states<K>(scan, unit, mine, tile_state<K>(scan, unit, t0 + tile), h);
            }
            sync_block();
        }
    }
}

template <class K>
SSNO_KERNEL(256, 1)
scan_backward(const Scan scan) {
    if (block_number() >= scan.grid) return;
    for (int64_t i = block_number(); i < scan.units; i += scan.grid) {
        const Unit unit = Unit::of<K>(scan, i);
        stage_parameters<K>(scan, unit);
        const int64_t span = unit.span(scan), tile = int64_t(1) << scan.log_steps;
        bool saved = false;  // the states before this tile and the others of its interval
        for (int64_t t0 = (span - 1) / tile * tile; t0 >= 0; t0 -= tile) {
            const int64_t base = t0 / scan.interval * scan.interval;
            if (!saved && scan.interval > tile) save_tile_states<K>(scan, unit, base, t0 + 1);
            saved = t0 > base;
            fill_table(scan, unit, t0, true);
            sync_block();
            stage_adjoint<K>(scan, unit, true);
            for (int64_t n0 = 0; n0 < scan.states; n0 += K::TILE)
                sweep_states<K>(scan, unit, t0, n0);
            sync_block();
            write_adjoint<K>(scan, unit);
            sync_block();
            add_row_sums<K>(scan, unit, t0);
            add_low_rank<K>(scan, unit, t0);
            sync_block();
        }
    }
}

}  // namespace ssno::cuda
