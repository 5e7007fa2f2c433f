// SPDX-License-Identifier: MIT
// v_B and v_C of (S7), sums over channels: first over the rows of a warp, then over the warps of a
// block; what blocks leave is summed by sum_plane (reduce_cuda.h).
#pragma once

#include "selective_scan/sweep_cuda.h"

namespace ssno::cuda {

// The layout of `products` of a warp: F steps, B and C, its rows
template <class K>
struct Products {
    static constexpr int LANES = WARP / K::S;                  // rows of a warp
    static constexpr int PITCH = LANES * K::WIDTH + K::WIDTH;  // of one step's B or C
    static constexpr int SIZE = 2 * F * PITCH;
};

// Sums F steps of products: over the rows of the warp, or over the steps where B or C is constant.
template <class K, bool Constant>
SSNO_DEVICE void sum_products(const Scan& scan, int q0) {
    using T = typename K::T;
    using P = Products<K>;
    constexpr int V = Pack<T>::SIZE, QUADS = 2 * F * K::WIDTH / V;
    constexpr int BESIDE = QUADS < WARP ? QUADS : WARP, PARTS = WARP / BESIDE;
    const Shared<T> products = shared<T>(scan.at.products) + warp() * P::SIZE;
    const Shared<T> columns = shared<T>(scan.at.columns);
    sync_warp();
#pragma unroll
    for (int quad0 = 0; quad0 < QUADS; quad0 += BESIDE) {
        const int quad = quad0 + lane() % BESIDE, part = lane() / BESIDE;
        const int which = quad * V / K::WIDTH, i = quad * V % K::WIDTH;
        T sum[V] = {};
#pragma unroll
        for (int r = 0; r < P::LANES / PARTS; ++r) {
            T x[V];
            get(products, which * P::PITCH + (part * (P::LANES / PARTS) + r) * K::WIDTH + i, x);
#pragma unroll
            for (int j = 0; j < V; ++j) sum[j] += x[j];
        }
#pragma unroll
        for (int by = BESIDE; by < WARP; by *= 2)
#pragma unroll
            for (int j = 0; j < V; ++j) sum[j] += shuffle_xor(sum[j], by);
        if (part == 0) put(columns, ((warp() * Q + q0) * 2 + which) * K::WIDTH + i, sum);
    }
    for (int which = 0; which < 2 && Constant; ++which) {
        if (!(which == 0 ? scan.B : scan.C).constant) continue;
#pragma unroll
        for (int j = 0; j < K::NT * K::PARTS; ++j) {
            const int at = (which * scan.threads + thread()) * (K::NT * K::PARTS) + j;
            const Shared<T> sums = shared<T>(scan.at.constants);
            T sum = sums.load(at);
            for (int q = 0; q < F; ++q)
                sum += products.load((2 * q + which) * P::PITCH + lane() * (K::NT * K::PARTS) + j);
            sums.store(at, sum);
        }
    }
    sync_warp();
}

// Sums `columns` over the warps of each chunk and writes partial v_B and v_C of Q steps.
template <class K>
SSNO_DEVICE void write_columns(const Scan& scan, const Unit& unit, int64_t n0, int64_t t0, int t) {
    using T = typename K::T;
    const Shared<T> columns = shared<T>(scan.at.columns);
    const int warps = (K::S << scan.log_channels) / WARP;  // of a chunk
    const int count = (2 * Q * K::WIDTH) << scan.log_chunks;
    for (int e = thread(); e < count; e += scan.threads) {
        const int i = e % K::WIDTH, which = e / K::WIDTH % 2, q = e / (2 * K::WIDTH) % Q;
        const int k = e / (2 * Q * K::WIDTH);
        void* const out = which == 0 ? scan.v_B : scan.v_C;
        if (out == nullptr || (which == 0 ? scan.B : scan.C).constant ||
            n0 * K::PARTS + i >= scan.states * K::PARTS || t + q >= steps_of(scan, k))
            continue;
        T sum = 0;
        for (int w = 0; w < warps; ++w)
            sum += columns.load((((k * warps + w) * Q + q) * 2 + which) * K::WIDTH + i);
        const int64_t tile = (unit.b * scan.runs + unit.run) * scan.blocks + unit.block;
        const int64_t step = tile * scan.length + unit.start(scan, k) + t0 + t + q;
        static_cast<T*>(out)[(step * scan.states + n0) * K::PARTS + i] = sum;
    }
}

}  // namespace ssno::cuda
