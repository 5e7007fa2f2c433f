// SPDX-License-Identifier: MIT
// The kernels that let chunks of time run at once: each finds what a chunk does to the state before
// it, or to the cotangent after it; link_chunks (reduce_cuda.h) then goes from chunk to chunk.
#pragma once

#include "selective_scan/adjoint_cuda.h"

namespace ssno::cuda {

// dt, dt u and, if `skip`, D u of a tile of steps. What is fetched waits in their place.
template <class K>
SSNO_DEVICE void stage_steps(const Scan& scan, const Unit& unit, bool skip) {
    using T = typename K::T;
    const Shared<T> dt = shared<T>(scan.at.dt), x = shared<T>(scan.at.x);
    visit<K>(scan, scan.in, [&](auto v, int k, int c0, int by, int t) {
        constexpr int V = decltype(v)::value;
        const int most = count_of(steps_of(scan, k), t, V), channels = 1 << scan.log_channels;
        Cursor<K> u_at(scan, unit, U, k, c0, by, t),
            delta = delta_cursor<K>(scan, unit, k, c0, by, t);
        const Cursor<K> factor = delta;
        const int row = row_at<K>(scan, k, 0) + t;
#pragma unroll 1
        for (int c = c0; c < channels;) {
            Raw<typename K::E, V> raw_u[AT_ONCE<V>], raw_delta[AT_ONCE<V>];
#pragma unroll
            for (int j = 0; j < AT_ONCE<V>; ++j, u_at.next(), delta.next()) {
                const int count = c + j * by < unit.here ? most : 0;
                raw_u[j] = u_at.template fetch<V>(count);
                raw_delta[j] = delta.template fetch<V>(scan.rank == 0 ? count : 0);
            }
#pragma unroll
            for (int j = 0; j < AT_ONCE<V>; ++j, c += by) {
                if (c >= channels) break;
                T s[V];
                decode(raw_u[j], u_at.stride, s);
                put(x, row + c * scan.pitch, s);
                decode(raw_delta[j], delta.stride, s);
                put(dt, row + c * scan.pitch, s);
            }
        }
#pragma unroll 1
        for (int c = c0; c < channels; c += by) {
            const int at = row + c * scan.pitch;
            T s[V], u[V];
            get(dt, at, s);
            get(x, at, u);
            complete_step_size<K>(scan, unit, factor, c, c < unit.here ? most : 0, s);
#pragma unroll
            for (int i = 0; i < V; ++i)
                if (scan.softplus) s[i] = softplus<T>(s[i]);
            put(dt, at, s);
#pragma unroll
            for (int i = 0; i < V; ++i) s[i] *= u[i];
            put(x, at, s);
            if (!skip) continue;
            const T D = shared<T>(scan.at.D).load(c);
#pragma unroll
            for (int i = 0; i < V; ++i) u[i] *= D;
            put(shared<T>(scan.at.y), at, u);
        }
    });
}

// The affine map of a chunk: its last state from zero, and the product of its decays
template <class K>
SSNO_KERNEL(256, 1)
scan_ends(const Scan scan) {
    using T = typename K::T;
    if (block_number() >= scan.units) return;
    const Unit unit = Unit::of<K>(scan, block_number());
    stage_parameters<K>(scan, unit);
    Numbers<K> h, product;
    Rates<K> rate;
    T total = 0;
    const int64_t span = unit.span(scan), tile = int64_t(1) << scan.log_steps;
    const int row = row_at<K>(scan, unit.k, unit.c);
    const Walk<K> walk(scan, unit, scan.B);
    const int64_t chunk = unit.b * scan.chunks + unit.chunk(unit.k);
    for (int64_t n0 = 0; n0 < scan.states; n0 += K::TILE) {
        const Mine<K> mine(unit, n0);
        load_rates<K>(scan, unit, mine, rate);
        total = 0;
#pragma unroll
        for (int i = 0; i < K::NT; ++i) {
            h[i] = {};
            product[i] = {};
            product[i].part[0] = 1;
        }
        for (int64_t t0 = 0; t0 < span; t0 += tile) {
            fill_table(scan, unit, t0, false);
            sync_block();
            stage_steps<K>(scan, unit, false);
            stage_plane<K>(scan, unit, scan.B, ALONG_B, n0, shared<T>(scan.at.B));
            sync_block();
            const int steps = steps_of(scan, unit.k);
#pragma unroll 4
            for (int t = 0; t < steps; ++t) {
                Numbers<K> B;
                load_numbers<K>(shared<T>(scan.at.B), walk(t), B);
                const T dt = shared<T>(scan.at.dt).load(row + t);
                const T x = shared<T>(scan.at.x).load(row + t);
                total += dt;
#pragma unroll
                for (int i = 0; i < K::NT; ++i) {
                    const auto a = decay<Range::any>(dt, rate[i]);
                    h[i] = advance(a, h[i], x, B[i]);
                    // a phase that is summed up first would lose digits
                    if constexpr (K::X) product[i] = mul(a, product[i]);
                }
            }
            sync_block();
        }
#pragma unroll
        for (int i = 0; i < K::NT; ++i)
            if constexpr (!K::X) product[i] = decay<Range::any>(total, rate[i]);
        if (unit.chunk(unit.k) >= scan.chunks) continue;
        store_states<K>(scan, unit, mine, plane_of<K>(scan, scan.carried.state, chunk), h);
        store_states<K>(scan, unit, mine, plane_of<K>(scan, scan.carried.decay, chunk), product);
    }
}

// The affine map of a chunk's adjoint: its cotangent before the chunk from zero after it, and the
// product of its decays
template <class K>
SSNO_KERNEL(256, 1)
scan_adjoint_ends(const Scan scan) {
    using T = typename K::T;
    if (block_number() >= scan.units) return;
    const Unit unit = Unit::of<K>(scan, block_number());
    stage_parameters<K>(scan, unit);
    const int64_t span = unit.span(scan), tile = int64_t(1) << scan.log_steps;
    const int row = row_at<K>(scan, unit.k, unit.c);
    const Walk<K> walk(scan, unit, scan.C);
    for (int64_t n0 = 0; n0 < scan.states; n0 += K::TILE) {
        const Mine<K> mine(unit, n0);
        Numbers<K> v_h, product;
        Rates<K> rate;
        load_rates<K>(scan, unit, mine, rate);
        T total = 0;
#pragma unroll
        for (int i = 0; i < K::NT; ++i) {
            v_h[i] = product[i] = {};
            product[i].part[0] = 1;
        }
        for (int64_t t0 = (span - 1) / tile * tile; t0 >= 0; t0 -= tile) {
            fill_table(scan, unit, t0, true);
            sync_block();
            stage_adjoint<K>(scan, unit, false);
            stage_plane<K>(scan, unit, scan.C, ALONG_C, n0, shared<T>(scan.at.C));
            sync_block();
#pragma unroll 4
            for (int t = steps_of(scan, unit.k) - 1; t >= 0; --t) {
                Numbers<K> C;
                load_numbers<K>(shared<T>(scan.at.C), walk(t), C);
                const T dt = shared<T>(scan.at.dt).load(row + t);
                const T v_y = shared<T>(scan.at.v_y).load(row + t);
                total += dt;
#pragma unroll
                for (int i = 0; i < K::NT; ++i) {
                    const auto a = decay<Range::any>(dt, rate[i]);
                    v_h[i] = conj_mul(a, observe_vjp(C[i], v_y) + v_h[i]);
                    if constexpr (K::X) product[i] = conj_mul(a, product[i]);
                }
            }
            sync_block();
        }
#pragma unroll
        for (int i = 0; i < K::NT; ++i)
            if constexpr (!K::X) product[i] = decay<Range::any>(total, rate[i]);
        if (unit.chunk(unit.k) >= scan.chunks) continue;
        const int64_t chunk = unit.b * scan.chunks + unit.chunk(unit.k);
        store_states<K>(scan, unit, mine, plane_of<K>(scan, scan.carried.state, chunk), v_h);
        store_states<K>(scan, unit, mine, plane_of<K>(scan, scan.carried.decay, chunk), product);
    }
}

}  // namespace ssno::cuda
