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

namespace ssno::cuda {

constexpr int Q = 8, F = 4;

// The layout of `products` of a warp: F steps, B and C, its rows
template <class K>
struct Products {
    static constexpr int LANES = WARP / K::S;                   // rows of a warp
    static constexpr int PITCH = LANES * K::WIDTH + K::WIDTH;  // of one step's B or C
    static constexpr int SIZE = 2 * F * PITCH;
};

// The state before the first step of a tile: given, saved, or from an earlier pass
template <class K>
SSNO_DEVICE States state_before(const Scan& scan, const Unit& unit, int64_t t0) {
    using T = typename K::T;
    const int64_t now = unit.start(scan, unit.k) + t0;
    if (now == 0) return scan.initial;
    if (now % scan.interval == 0) {
        T* p = static_cast<T*>(scan.checkpoints) + unit.b * scan.checkpoints_stride;
        return plane_of<K>(scan, p, now / scan.interval - 1);
    }
    const int64_t tile = (now % scan.interval >> scan.log_steps) - 1;
    const int64_t rows = scan.threads / K::S, size = scan.states * K::PARTS * rows;
    T* p = static_cast<T*>(scan.tile_states) + (block_x() * scan.tiles + tile) * size;
    return {p + unit.row - unit.d, -unit.b * 0, 1, rows * K::PARTS, rows};
}

// Q or F steps of (S3) alone, or with their part of y
template <class K>
SSNO_DEVICE void recompute(const Scan& scan, const Unit& unit, int steps, bool keep,
                           const Rates<K>& rate, Numbers<K>& h) {
    using T = typename K::T;
    const Shared<T> kept = shared<T>(scan.at.states);
    const int row = row_at<K>(scan, unit.k, unit.c);
    const Walk walk_B = Walk::of<K>(scan, unit, scan.B), walk_C = Walk::of<K>(scan, unit, scan.C);
    const bool observed = keep && scan.row[V_Z].p != nullptr;
    for (int t = 0; t < steps; t += F) {
        if (keep && t % Q == 0) {
            T v[K::NT * K::PARTS];
#pragma unroll
            for (int i = 0; i < K::NT * K::PARTS; ++i) v[i] = h[i / K::PARTS].part[i % K::PARTS];
            put(kept, (t / Q * scan.threads + thread()) * (K::NT * K::PARTS), v);
        }
        T dt[F], x[F];
        get(shared<T>(scan.at.dt), row + t, dt);
        get(shared<T>(scan.at.x), row + t, x);
#pragma unroll
        for (int q = 0; q < F; ++q) {
            if (t + q >= steps) break;
            Numbers<K> B;
            load_numbers<K>(shared<T>(scan.at.B), walk_B.at + (t + q) * walk_B.step, B);
#pragma unroll
            for (int i = 0; i < K::NT; ++i)
                h[i] = advance(decay<Range::any>(dt[q], rate[i]), h[i], x[q], B[i]);
            if (!observed) continue;
            Numbers<K> C;
            load_numbers<K>(shared<T>(scan.at.C), walk_C.at + (t + q) * walk_C.step, C);
            T y[1] = {0};
#pragma unroll
            for (int i = 0; i < K::NT; ++i) y[0] += observe(C[i], h[i]);
            sum_lanes<K::S>(y);
            if (unit.s == 0) accumulate(shared<T>(scan.at.y), row + t + q, y);
        }
    }
}
}  // namespace ssno::cuda
