// SPDX-License-Identifier: MIT
// Forward kernels of the selective scan; labels are those of the docstring of
// ssno_kernels.selective_scan.
#pragma once

#include "selective_scan/kernel_cuda_ends.h"

namespace ssno::cuda {

// The gate (S5) and what other traversals gave
template <class K>
SSNO_DEVICE void write_out(const Scan& scan, const Unit& unit) {
    using T = typename K::T;
    visit<K>(scan, scan.out, [&](auto v, int k, int c, int by, int t) {
        constexpr int V = decltype(v)::value;
        const int count = count_of(steps_of(scan, k), t, V);
        if (count == 0) return;
        Cursor<K> z(scan, unit, Z, k, c, by, t), sum(scan, unit, SUM, k, c, by, t),
            out(scan, unit, OUT, k, c, by, t);
        for (; c < unit.here; c += by, z.next(), sum.next(), out.next()) {
            T y[V], other[V];
            get(shared<T>(scan.at.y), row_at<K>(scan, k, c) + t, y);
            if (z.given()) {
                z.load(count, other);
#pragma unroll
                for (int i = 0; i < V; ++i) y[i] *= other[i] * sigmoid<T>(other[i]);
            }
            if (sum.given()) {
                sum.load_sum(count, other);
#pragma unroll
                for (int i = 0; i < V; ++i) y[i] += other[i];
            }
            out.store(count, y);
        }
    });
}

// Q steps of (S3) and (S4), from step t of the tile on; y[q] is this thread's part.
template <class K, int Q>
SSNO_DEVICE void advance_steps(const Scan& scan, int row, int t, const Walk<K>& walk_B,
                               const Walk<K>& walk_C, const Rates<K>& rate, Numbers<K>& h,
                               typename K::T (&y)[Q]) {
    using T = typename K::T;
    T dt[Q], x[Q];
    get(shared<T>(scan.at.dt), row + t, dt);
    get(shared<T>(scan.at.x), row + t, x);
#pragma unroll
    for (int q = 0; q < Q; ++q) {
        Numbers<K> B, C;
        load_numbers<K>(shared<T>(scan.at.B), walk_B(t + q), B);
        load_numbers<K>(shared<T>(scan.at.C), walk_C(t + q), C);
        y[q] = 0;
#pragma unroll
        for (int i = 0; i < K::NT; ++i) {
            h[i] = advance(decay<Range::any>(dt[q], rate[i]), h[i], x[q], B[i]);
            y[q] += observe(C[i], h[i]);
        }
    }
}

// A tile of steps for one tile of states
template <class K>
SSNO_DEVICE void advance_tile(const Scan& scan, const Unit& unit, int steps, const Rates<K>& rate,
                              Numbers<K>& h) {
    using T = typename K::T;
    constexpr int Q = 8 * 4 / (K::PARTS * sizeof(T));  // as the registers allow
    const Shared<T> sums = shared<T>(scan.at.y);
    const int row = row_at<K>(scan, unit.k, unit.c);
    const Walk<K> B(scan, unit, scan.B), C(scan, unit, scan.C);
    int t = 0;
    for (; t + Q <= steps; t += Q) {
        T y[Q], mine[Q / K::S];
        advance_steps<K>(scan, row, t, B, C, rate, h, y);
        sum_lanes<K::S>(y);
#pragma unroll
        for (int i = 0; i < Q / K::S; ++i) mine[i] = y[i];
        accumulate(sums, row + t + unit.s * (Q / K::S), mine);
    }
    for (; t < steps; ++t) {
        T y[1];
        advance_steps<K>(scan, row, t, B, C, rate, h, y);
        sum_lanes<K::S>(y);
        if (unit.s == 0) accumulate(sums, row + t, y);
    }
}

template <class K>
SSNO_KERNEL(256, 1)
scan_forward(const Scan scan) {
    using T = typename K::T;
    if (block_number() >= scan.units) return;
    const Unit unit = Unit::of<K>(scan, block_number());
    stage_parameters<K>(scan, unit);
    Numbers<K> h;
    Rates<K> rate;
    const int64_t span = unit.span(scan), tile = int64_t(1) << scan.log_steps;
    for (int64_t t0 = 0; t0 < span; t0 += tile) {
        fill_table(scan, unit, t0, false);
        sync_block();
        stage_steps<K>(scan, unit, true);
        const int steps = steps_of(scan, unit.k);
        const int64_t now = unit.start(scan, unit.k) + t0;
        for (int64_t n0 = 0; n0 < scan.states; n0 += K::TILE) {
            const Mine<K> mine(unit, n0);
            if (n0 > 0) sync_block();
            stage_plane<K>(scan, unit, scan.B, ALONG_B, n0, shared<T>(scan.at.B));
            stage_plane<K>(scan, unit, scan.C, ALONG_C, n0, shared<T>(scan.at.C));
            const int64_t chunk = unit.b * scan.chunks + unit.chunk(unit.k);
            const bool passed = scan.chunks > 1 || t0 > 0;
            if (steps > 0 && (t0 == 0 || scan.through_memory)) {
                load_rates<K>(scan, unit, mine, rate);
                load_states<K>(scan, unit, mine,
                               passed ? plane_of<K>(scan, scan.carried.state, chunk) : scan.initial,
                               h);
            }
            sync_block();
            if (steps == 0) continue;
            if (scan.checkpoints != nullptr && now > 0 && now % scan.interval == 0) {
                T* p = static_cast<T*>(scan.checkpoints) + unit.b * scan.checkpoints_stride;
                store_states<K>(scan, unit, mine, plane_of<K>(scan, p, now / scan.interval - 1), h);
            }
            advance_tile<K>(scan, unit, steps, rate, h);
            if (now + steps == scan.length && scan.final.p != nullptr)
                store_states<K>(scan, unit, mine, scan.final, h);
            if (scan.through_memory)
                store_states<K>(scan, unit, mine, plane_of<K>(scan, scan.carried.state, chunk), h);
        }
        sync_block();
        write_out<K>(scan, unit);
        sync_block();
    }
}

}  // namespace ssno::cuda
