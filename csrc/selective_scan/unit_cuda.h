// SPDX-License-Identifier: MIT
// Which steps, channels and states a block and its threads have.
#pragma once

#define SSNO_SCALAR  // a thread holds single numbers, not vectors of lanes
#define SSNO_ISA cuda
#include "selective_scan/scan_cuda.h"
#include "ssno/cuda.h"
#include "ssno/number.h"

namespace ssno::cuda {

using namespace ssno::selective_scan;

// What a kernel is compiled for: T computes, E lies in memory; S lanes hold NT states each.
template <class T_, class E_, bool X_, int NT_, int S_>
struct Kind {
    using T = T_;
    using E = E_;
    using Num = Number<T, X_>;
    static constexpr bool X = X_;
    static constexpr int NT = NT_, S = S_, PARTS = X ? 2 : 1;
    static constexpr int TILE = NT * S, WIDTH = TILE * PARTS;  // states, and numbers, of a tile
    static constexpr int PAD = Pack<T>::SIZE;                  // against conflicts of banks
    static constexpr int PITCH = WIDTH + PAD;                  // of a step of B and C
};

template <int V>
struct Count {
    static constexpr int value = V;
};

// What this block works on, and this thread
struct Unit {
    int64_t b, run, block, first_chunk, first_channel;
    int here;          // channels
    int row, k, c, s;  // the thread's row: its chunk and channel in the tile, its lane of the row
    int64_t d;
    bool exists;  // whether the thread's row is one of a channel

    template <class K>
    SSNO_DEVICE static Unit of(const Scan& scan, int64_t i) {
        Unit u;
        u.block = i % scan.blocks;
        i /= scan.blocks;
        u.run = i % scan.runs;
        i /= scan.runs;
        u.first_chunk = i % scan.chunk_blocks << scan.log_chunks;
        u.b = i / scan.chunk_blocks;
        u.row = thread() / K::S;
        u.s = thread() % K::S;
        u.k = u.row >> scan.log_channels;
        u.c = u.row - (u.k << scan.log_channels);
        u.first_channel = u.run * scan.per_run + (u.block << scan.log_channels);
        u.d = u.first_channel + u.c;
        const int64_t left = scan.per_run - (u.block << scan.log_channels);
        u.here = static_cast<int>(left < 1 << scan.log_channels ? left : 1 << scan.log_channels);
        u.exists = u.c < u.here;
        return u;
    }
    SSNO_DEVICE int64_t chunk(int of) const { return first_chunk + of; }
    SSNO_DEVICE int64_t start(const Scan& scan, int of) const { return chunk(of) * scan.chunk; }
    // Steps that chunk `of` of the tile has from its t0-th on, at most a tile of them
    SSNO_DEVICE int steps(const Scan& scan, int of, int64_t t0) const {
        const int64_t begin = start(scan, of);
        const int64_t span = begin + scan.chunk < scan.length ? scan.chunk : scan.length - begin;
        const int64_t left = span - t0, most = int64_t(1) << scan.log_steps;
        return static_cast<int>(left < 0 ? 0 : left < most ? left : most);
    }
    // Whether no step of chunk `of` follows the tile at t0
    SSNO_DEVICE bool is_last(const Scan& scan, int of, int64_t t0) const {
        const int64_t end = t0 + (int64_t(1) << scan.log_steps);
        return end >= scan.chunk || start(scan, of) + end >= scan.length;
    }
    // Steps of the longest of its chunks
    SSNO_DEVICE int64_t span(const Scan& scan) const {
        const int64_t left = scan.length - start(scan, 0);
        return left < scan.chunk ? left : scan.chunk;
    }
};

// Where row r begins in the rows of steps: a chunk's rows are a little apart from the last one's.
template <class K>
SSNO_DEVICE int row_at(const Scan& scan, int k, int c) {
    return ((k << scan.log_channels) + c) * scan.pitch + k * K::PAD;
}

// Offsets of the steps of a tile, in each tensor along time
SSNO_DEVICE void fill_table(const Scan& scan, const Unit& unit, int64_t t0, bool adjoint) {
    const Shared<int64_t> table = shared<int64_t>(scan.at.table);
    const int size = 1 << (scan.log_chunks + scan.log_steps);
    if (thread() < 1 << scan.log_chunks)
        shared<int>(scan.at.count).store(thread(), unit.steps(scan, thread(), t0));
    for (int e = thread(); e < size; e += scan.threads) {
        const int k = e >> scan.log_steps;
        int64_t i = unit.start(scan, k) + t0 + (e & ((1 << scan.log_steps) - 1)), j = 0, l = 0;
        if (i >= scan.inner) {
            j = i / scan.inner;
            i -= j * scan.inner;
            l = j / scan.middle;
            j -= l * scan.middle;
        }
        const auto put = [&](int which, const Steps& step) {
            table.store(which * size + e, i * step.t + j * step.t1 + l * step.t2);
        };
#pragma unroll
        for (int which = 0; which < ROWS; ++which)
            if (scan.row[which].p != nullptr && (adjoint || which <= SUM))
                put(which, scan.row[which].step);
        put(ALONG_B, scan.B.step);
        put(ALONG_C, scan.C.step);
    }
}
SSNO_DEVICE int64_t place(const Scan& scan, int which, int k, int t) {
    const int log_size = scan.log_chunks + scan.log_steps;
    return shared<int64_t>(scan.at.table).load((which << log_size) + (k << scan.log_steps) + t);
}

// Steps that chunk k has in this tile
SSNO_DEVICE int steps_of(const Scan& scan, int k) { return shared<int>(scan.at.count).load(k); }

// Calls f(Count<V>, k, c, by, t) so that the threads together visit V steps from t on of every row
// of chunk k: f is to go from channel c on by `by`. Lanes lie along rows or steps as `m` says;
// warps share out what is left of the steps, then of the channels.
template <int V, class F>
SSNO_DEVICE void visit_by(const Scan& scan, const Mapping& m, int log_groups, F f) {
    const int side = m.log_rows, beside = 5 - side, warps = scan.threads / WARP;
    const int log_blocks = log_groups - beside, blocks = 1 << log_blocks;
    const int parts = warps > blocks ? warps >> log_blocks : 1, part = warp() >> log_blocks;
    const int mine = lane() & ((1 << side) - 1);
    const int first = m.by_chunk ? mine : 0, last = m.by_chunk ? mine + 1 : 1 << scan.log_chunks;
    const int channel = m.by_chunk ? part : (part << side) + mine;
    const int by = m.by_chunk ? parts : parts << side;
    for (int block = warp() & (blocks - 1); block < blocks; block += warps) {
        const int t = ((block << beside) + (lane() >> side)) * V;
        for (int k = first; k < last; ++k) f(Count<V>{}, k, channel, by, t);
    }
}
template <class K, class F>
SSNO_DEVICE void visit(const Scan& scan, const Mapping& m, F f) {
    constexpr int V = Pack<typename K::E>::SIZE, LOG = V == 8 ? 3 : V == 4 ? 2 : 1;
    if (m.vector)
        visit_by<V>(scan, m, scan.log_steps - LOG, f);
    else
        visit_by<1>(scan, m, scan.log_steps, f);
}

}  // namespace ssno::cuda
