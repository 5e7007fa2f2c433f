// SPDX-License-Identifier: MIT
// The adjoint's elementwise halves: what a tile of steps reads before its sweep, and what it writes
// after; labels are those of the docstring of ssno_kernels.selective_scan.
#pragma once

#include "selective_scan/sweep_cuda.h"

namespace ssno::cuda {

// dt and v_y of a tile of steps; if `whole` also dt u, zeros for the sums over states, and D u
// where a gate wants y
template <class K>
SSNO_DEVICE void stage_adjoint(const Scan& scan, const Unit& unit, bool whole) {
    using T = typename K::T;
    visit<K>(scan, scan.in, [&](auto v, int k, int c, int by, int t) {
        constexpr int V = decltype(v)::value;
        const int most = count_of(steps_of(scan, k), t, V);
        const auto cursor = [&](int which) { return Cursor<K>(scan, unit, which, k, c, by, t); };
        Cursor<K> u_at = cursor(U), z = cursor(Z), v_out = cursor(V_OUT),
                  delta = delta_cursor<K>(scan, unit, k, c, by, t);
#pragma unroll 1
        for (; c < 1 << scan.log_channels;
             c += by, u_at.next(), z.next(), v_out.next(), delta.next()) {
            const int count = c < unit.here ? most : 0, at = row_at<K>(scan, k, c) + t;
            T s[V], v_y[V], u[V];
            // all under way before one is looked at
            const auto raw_u = u_at.template fetch<V>(whole ? count : 0);
            const auto raw_v = v_out.template fetch<V>(count);
            const auto raw_s = delta.template fetch<V>(scan.rank == 0 ? count : 0);
            const auto raw_z = z.template fetch<V>(z.given() ? count : 0);
            decode(raw_u, u_at.stride, u);
            decode(raw_v, v_out.stride, v_y);
            decode(raw_s, delta.stride, s);
            complete_step_size<K>(scan, unit, delta, c, count, s);
            if (z.given()) {
                T gate[V];
                decode(raw_z, z.stride, gate);
#pragma unroll
                for (int i = 0; i < V; ++i) v_y[i] *= gate[i] * sigmoid<T>(gate[i]);
            }
            put(shared<T>(scan.at.v_y), at, v_y);
#pragma unroll
            for (int i = 0; i < V; ++i) {
                if (scan.softplus) s[i] = softplus<T>(s[i]);
                if (i >= count) s[i] = 0;
            }
            put(shared<T>(scan.at.dt), at, s);
            if (!whole) continue;
#pragma unroll
            for (int i = 0; i < V; ++i) s[i] *= u[i];
            put(shared<T>(scan.at.x), at, s);
            if (scan.row[V_Z].p != nullptr) {
                const T D = shared<T>(scan.at.D).load(c);
#pragma unroll
                for (int i = 0; i < V; ++i) u[i] *= D;
                put(shared<T>(scan.at.y), at, u);
            }
#pragma unroll
            for (int i = 0; i < V; ++i) s[i] = 0;
            put(shared<T>(scan.at.v_dt), at, s);
            put(shared<T>(scan.at.v_x), at, s);
        }
    });
}

// v_z from y, which is in shared memory
template <class K, int V>
SSNO_DEVICE void write_gate(const Scan& scan, const Cursor<K>& z_at, const Cursor<K>& v_out_at,
                            const Cursor<K>& to, int at, int count) {
    using T = typename K::T;
    T z[V], v_out[V], y[V];
    z_at.load(count, z);
    v_out_at.load(count, v_out);
    get(shared<T>(scan.at.y), at, y);
#pragma unroll
    for (int i = 0; i < V; ++i) {
        const T gate = sigmoid<T>(z[i]);
        v_out[i] *= y[i] * gate * (1 + z[i] * (1 - gate));
    }
    to.store(count, v_out);
}

// (S9): v_u, v_delta and v_z. The sums over states make room for v_s and v_y u, zero past the end.
template <class K>
SSNO_DEVICE void write_adjoint(const Scan& scan, const Unit& unit) {
    using T = typename K::T;
    visit<K>(scan, scan.out, [&](auto v, int k, int c, int by, int t) {
        constexpr int V = decltype(v)::value;
        const int count = count_of(steps_of(scan, k), t, V);
        if (count == 0) return;
        const auto cursor = [&](int which) { return Cursor<K>(scan, unit, which, k, c, by, t); };
        Cursor<K> u_at = cursor(U), z = cursor(Z), v_out = cursor(V_OUT), sum = cursor(SUM),
                  v_u_at = cursor(V_U), v_delta = cursor(V_DELTA), v_z = cursor(V_Z),
                  delta = delta_cursor<K>(scan, unit, k, c, by, t);
        const auto next = [&] {
            u_at.next(), z.next(), v_out.next(), sum.next(), delta.next();
            v_u_at.next(), v_delta.next(), v_z.next();
        };
#pragma unroll 1
        for (; c < unit.here; c += by, next()) {
            const int at = row_at<K>(scan, k, c) + t;
            T u[V], v_x[V], v_y[V], v_s[V], s[V];
            const auto raw_u = u_at.template fetch<V>(count);
            const auto raw_s = delta.template fetch<V>(scan.softplus && scan.rank == 0 ? count : 0);
            decode(raw_u, u_at.stride, u);
            get(shared<T>(scan.at.v_x), at, v_x);
            get(shared<T>(scan.at.v_y), at, v_y);
            if (v_u_at.given()) {
                const T D = shared<T>(scan.at.D).load(c);
                T v_u[V];
                get(shared<T>(scan.at.dt), at, s);
#pragma unroll
                for (int i = 0; i < V; ++i) v_u[i] = D * v_y[i] + s[i] * v_x[i];
                if (sum.given()) {
                    sum.load_sum(count, s);
#pragma unroll
                    for (int i = 0; i < V; ++i) v_u[i] += s[i];
                }
                v_u_at.store(count, v_u);
            }
            get(shared<T>(scan.at.v_dt), at, v_s);
            if (scan.softplus) {
                decode(raw_s, delta.stride, s);
                complete_step_size<K>(scan, unit, delta, c, count, s);
            }
#pragma unroll
            for (int i = 0; i < V; ++i) {
                v_s[i] += u[i] * v_x[i];
                if (scan.softplus) v_s[i] *= softplus_slope<T>(s[i]);
                v_y[i] *= u[i];
            }
            if (v_delta.given()) v_delta.store(count, v_s);
            put(shared<T>(scan.at.v_dt), at, v_s);
            put(shared<T>(scan.at.v_x), at, v_y);
            if (v_z.given()) write_gate<K, V>(scan, z, v_out, v_z, at, count);
        }
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
    const int steps = steps_of(scan, unit.k), row = row_at<K>(scan, unit.k, unit.c);
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
            if (t >= steps_of(scan, k)) continue;
            T sum = 0;
            for (int c = 0; c < unit.here; ++c)
                sum = fma(weight[c * scan.weight.d + r * scan.weight.r],
                          v_s.load(row_at<K>(scan, k, c) + t), sum);
            const int64_t tile = (unit.b * scan.runs + unit.run) * scan.blocks + unit.block;
            const int64_t step = unit.start(scan, k) + t0 + t;
            static_cast<T*>(scan.v_low)[(tile * scan.length + step) * rank + r] = sum;
        }
    if (scan.v_w == nullptr) return;
    for (int e = thread(); e < chunks * channels * rank; e += scan.threads) {
        const int c = e % channels, r = e / channels % rank, k = e / channels / rank;
        const int count = c < unit.here ? steps_of(scan, k) : 0;
        if (count == 0) continue;
        using E = typename K::E;
        const Rows& delta = scan.row[DELTA];
        const E* const x = reinterpret_cast<const E*>(delta.p) + unit.b * delta.b + r * delta.d;
        T sum = 0;
        for (int t = 0; t < count; ++t)
            sum = fma(widen(x[place(scan, DELTA, k, t)]), v_s.load(row_at<K>(scan, k, c) + t), sum);
        const int64_t plane = (unit.b * scan.chunks + unit.chunk(k)) * rank + r;
        add_part(scan.v_w, plane * scan.channels + unit.first_channel + c, sum,
                 unit.is_last(scan, k, t0));
    }
}

}  // namespace ssno::cuda
