// SPDX-License-Identifier: MIT
// The adjoint's elementwise halves: what a tile of steps reads before its sweep, and what it writes
// after; labels are those of the docstring of ssno_kernels.selective_scan.
#pragma once

#include "selective_scan/sweep_cuda.h"

namespace ssno::cuda {

// Where V steps of channel c of chunk k lie in a tensor along time
SSNO_DEVICE int64_t element(const Scan& scan, const Unit& unit, int which, int k, int c, int t) {
    const Rows& rows = scan.row[which];
    return unit.b * rows.b + (unit.first_channel + c) * rows.d + place(scan, which, k, t);
}
SSNO_DEVICE int count_of(const Scan& scan, const Unit& unit, int k, int c, int t, int64_t t0,
                         int most) {
    const int left = unit.has(scan, c) ? unit.steps(scan, k, t0) - t : 0;
    return left < 0 ? 0 : left < most ? left : most;
}

// dt and v_y of a tile of steps; if `whole` also dt u, zeros for the sums over states, and D u
// where a gate wants y
template <class K>
SSNO_DEVICE void stage_adjoint(const Scan& scan, const Unit& unit, int64_t t0, bool whole) {
    using T = typename K::T;
    visit<K>(scan, scan.in, [&](auto v, int k, int c, int t) {
        constexpr int V = decltype(v)::value;
        const int count = count_of(scan, unit, k, c, t, t0, V), at = row_at<K>(scan, k, c) + t;
        T s[V], v_y[V], other[V];
        load_step_size<K>(scan, unit, k, c, t, count, s);
        load_steps<K>(scan.row[V_OUT], element(scan, unit, V_OUT, k, c, t), count, v_y);
        if (scan.row[Z].p != nullptr) {
            load_steps<K>(scan.row[Z], element(scan, unit, Z, k, c, t), count, other);
#pragma unroll
            for (int i = 0; i < V; ++i) v_y[i] *= other[i] * sigmoid<T>(other[i]);
        }
        put(shared<T>(scan.at.v_y), at, v_y);
#pragma unroll
        for (int i = 0; i < V; ++i)
            if (scan.softplus) s[i] = softplus<T>(s[i]);
        put(shared<T>(scan.at.dt), at, s);
        if (!whole) return;
        load_steps<K>(scan.row[U], element(scan, unit, U, k, c, t), count, other);
#pragma unroll
        for (int i = 0; i < V; ++i) s[i] *= other[i];
        put(shared<T>(scan.at.x), at, s);
        if (scan.row[V_Z].p != nullptr) {
            const T D = shared<T>(scan.at.D).load(c);
#pragma unroll
            for (int i = 0; i < V; ++i) other[i] *= D;
            put(shared<T>(scan.at.y), at, other);
        }
#pragma unroll
        for (int i = 0; i < V; ++i) s[i] = 0;
        put(shared<T>(scan.at.v_dt), at, s);
        put(shared<T>(scan.at.v_x), at, s);
    });
}

// v_z from y, which is in shared memory
template <class K, int V>
SSNO_DEVICE void write_gate(const Scan& scan, const Unit& unit, int k, int c, int t, int count) {
    using T = typename K::T;
    T z[V], v_out[V], y[V];
    load_steps<K>(scan.row[Z], element(scan, unit, Z, k, c, t), count, z);
    load_steps<K>(scan.row[V_OUT], element(scan, unit, V_OUT, k, c, t), count, v_out);
    get(shared<T>(scan.at.y), row_at<K>(scan, k, c) + t, y);
#pragma unroll
    for (int i = 0; i < V; ++i) {
        const T gate = sigmoid<T>(z[i]);
        v_out[i] *= y[i] * gate * (1 + z[i] * (1 - gate));
    }
    store_steps<K>(scan.row[V_Z], element(scan, unit, V_Z, k, c, t), count, v_out);
}

// (S9): v_u, v_delta and v_z. The sums over states make room for v_s and v_y u, zero past the end.
template <class K>
SSNO_DEVICE void write_adjoint(const Scan& scan, const Unit& unit, int64_t t0) {
    using T = typename K::T;
    visit<K>(scan, scan.out, [&](auto v, int k, int c, int t) {
        constexpr int V = decltype(v)::value;
        const int count = count_of(scan, unit, k, c, t, t0, V), at = row_at<K>(scan, k, c) + t;
        if (count == 0) return;
        T u[V], v_u[V], v_x[V], v_y[V], v_s[V], s[V];
        load_steps<K>(scan.row[U], element(scan, unit, U, k, c, t), count, u);
        get(shared<T>(scan.at.v_x), at, v_x);
        get(shared<T>(scan.at.v_y), at, v_y);
        if (scan.row[V_U].p != nullptr) {
            const T D = shared<T>(scan.at.D).load(c);
            get(shared<T>(scan.at.dt), at, s);
#pragma unroll
            for (int i = 0; i < V; ++i) v_u[i] = D * v_y[i] + s[i] * v_x[i];
            if (scan.row[SUM].p != nullptr) {
                load_sum<K>(scan.row[SUM], element(scan, unit, SUM, k, c, t), count, s);
#pragma unroll
                for (int i = 0; i < V; ++i) v_u[i] += s[i];
            }
            store_steps<K>(scan.row[V_U], element(scan, unit, V_U, k, c, t), count, v_u);
        }
        get(shared<T>(scan.at.v_dt), at, v_s);
        if (scan.softplus) load_step_size<K>(scan, unit, k, c, t, count, s);
#pragma unroll
        for (int i = 0; i < V; ++i) {
            v_s[i] += u[i] * v_x[i];
            if (scan.softplus) v_s[i] *= softplus_slope<T>(s[i]);
            v_y[i] *= u[i];
        }
        if (scan.row[V_DELTA].p != nullptr)
            store_steps<K>(scan.row[V_DELTA], element(scan, unit, V_DELTA, k, c, t), count, v_s);
        put(shared<T>(scan.at.v_dt), at, v_s);
        put(shared<T>(scan.at.v_x), at, v_y);
        if (scan.row[V_Z].p != nullptr) write_gate<K, V>(scan, unit, k, c, t, count);
    });
}

// Adds to a partial sum, or begins it in the tile that comes first.
template <class T>
SSNO_DEVICE void add_part(void* sums, int64_t at, T x, bool first) {
    T* p = static_cast<T*>(sums) + at;
    *p = first ? x : *p + x;
}

// A tile's part of v_D, v_delta_bias
template <class K>
SSNO_DEVICE void add_row_sums(const Scan& scan, const Unit& unit, int64_t t0) {
    using T = typename K::T;
    const int steps = unit.steps(scan, unit.k, t0), row = row_at<K>(scan, unit.k, unit.c);
    T bias[1] = {0}, skip[1] = {0};
    for (int t = unit.s; t < steps; t += K::S) {
        bias[0] += shared<T>(scan.at.v_dt).load(row + t);
        skip[0] += shared<T>(scan.at.v_x).load(row + t);
    }
    sum_lanes<K::S>(bias);
    sum_lanes<K::S>(skip);
    if (unit.s != 0 || !unit.exists || steps == 0) return;
    const bool first = unit.is_last(scan, unit.k, t0);
    const int64_t at = (unit.b * scan.chunks + unit.chunk(unit.k)) * scan.channels + unit.d;
    if (scan.v_D != nullptr) add_part(scan.v_D, at, skip[0], first);
    if (scan.v_bias != nullptr) add_part(scan.v_bias, at, bias[0], first);
}

// A tile's part of the cotangents of a low-rank delta and of delta_weight
template <class K>
SSNO_DEVICE void add_low_rank(const Scan& scan, const Unit& unit, int64_t t0) {
    using T = typename K::T;
    const Shared<T> v_s = shared<T>(scan.at.v_dt);
    const int channels = 1 << scan.log_channels, chunks = 1 << scan.log_chunks;
    const int rank = static_cast<int>(scan.rank), steps = 1 << scan.log_steps;
    const T* weight = static_cast<const T*>(scan.weight.p) + unit.first_channel * scan.weight.d;
    if (scan.v_low != nullptr)
        for (int e = thread(); e < chunks * steps * rank; e += scan.threads) {
            const int r = e % rank, k = e / rank / steps, t = e / rank % steps;
            if (t >= unit.steps(scan, k, t0)) continue;
            T sum = 0;
            for (int c = 0; c < channels && unit.has(scan, c); ++c)
                sum = fma(weight[c * scan.weight.d + r * scan.weight.r],
                          v_s.load(row_at<K>(scan, k, c) + t), sum);
            const int64_t tile = (unit.b * scan.runs + unit.run) * scan.blocks + unit.block;
            const int64_t step = unit.start(scan, k) + t0 + t;
            static_cast<T*>(scan.v_low)[(tile * scan.length + step) * rank + r] = sum;
        }
    if (scan.v_w == nullptr) return;
    for (int e = thread(); e < chunks * channels * rank; e += scan.threads) {
        const int c = e % channels, r = e / channels % rank, k = e / channels / rank;
        const int count = unit.has(scan, c) ? unit.steps(scan, k, t0) : 0;
        if (count == 0) continue;
        T sum = 0, x[1];
        const Rows& delta = scan.row[DELTA];
        for (int t = 0; t < count; ++t) {
            load_steps<K>(delta, unit.b * delta.b + r * delta.d + place(scan, DELTA, k, t), 1, x);
            sum = fma(x[0], v_s.load(row_at<K>(scan, k, c) + t), sum);
        }
        const int64_t plane = (unit.b * scan.chunks + unit.chunk(k)) * rank + r;
        add_part(scan.v_w, plane * scan.channels + unit.first_channel + c, sum,
                 unit.is_last(scan, k, t0));
    }
}

}  // namespace ssno::cuda
