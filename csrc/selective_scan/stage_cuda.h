// SPDX-License-Identifier: MIT
// The way of steps between global and shared memory.
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
    int row, k, c, s;  // the thread's row: its chunk and channel in the tile, its lane of the row
    int64_t d;
    bool exists;

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
        u.exists = u.has(scan, u.c);
        return u;
    }
    SSNO_DEVICE bool has(const Scan& scan, int channel) const {
        return (block << scan.log_channels) + channel < scan.per_run;
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

// Calls f(Count<V>, k, c, t) so that the threads together visit V steps from t on of every row.
template <class K, class F>
SSNO_DEVICE void visit(const Scan& scan, const Mapping& m, F f) {
    constexpr int V = Pack<typename K::E>::SIZE;
    const int log_rows = scan.log_channels + scan.log_chunks;
    if (m.vector) {
        const int groups = (1 << scan.log_steps) / V, count = groups << log_rows;
        for (int e = thread(); e < count; e += scan.threads) {
            const int r = e / groups, k = r >> scan.log_channels;
            f(Count<V>{}, k, r - (k << scan.log_channels), e % groups * V);
        }
    } else {
        const int side = m.log_rows, beside = 5 - side, log_over = log_rows - side;
        const int count = 1 << (log_rows + scan.log_steps);
        for (int e = thread(); e < count; e += scan.threads) {
            const int high = e >> 5;
            const int r = ((high & ((1 << log_over) - 1)) << side) + (e & ((1 << side) - 1));
            const int t = ((high >> log_over) << beside) + ((e & 31) >> side);
            const int k = m.by_chunk ? r & ((1 << scan.log_chunks) - 1) : r >> scan.log_channels;
            const int c = m.by_chunk ? r >> scan.log_chunks : r - (k << scan.log_channels);
            f(Count<1>{}, k, c, t);
        }
    }
}

template <class T, class E, int V>
SSNO_DEVICE void load_as_is(const E* p, int64_t stride, int count, T (&x)[V]) {
    constexpr int P = Pack<E>::SIZE;
    if (V >= P && count == V) {
        const bool forward = stride == 1;
#pragma unroll
        for (int j = 0; j < V; j += P) {
            const Pack<E> pack = load16(forward ? p + j : p - j - (P - 1));
#pragma unroll
            for (int i = 0; i < P && j + i < V; ++i)
                x[j + i] = widen(forward ? pack.v[i] : pack.v[P - 1 - i]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < V; ++i) x[i] = i < count ? widen(p[i * stride]) : T(0);
    }
}
template <class T, class E, int V>
SSNO_DEVICE void store_as_is(E* p, int64_t stride, int count, const T (&x)[V]) {
    constexpr int P = Pack<E>::SIZE;
    if (V >= P && count == V) {
        const bool forward = stride == 1;
#pragma unroll
        for (int j = 0; j < V; j += P) {
            Pack<E> pack;
#pragma unroll
            for (int i = 0; i < P && j + i < V; ++i)
                narrow(x[j + i], pack.v[forward ? i : P - 1 - i]);
            store16(forward ? p + j : p - j - (P - 1), pack);
        }
    } else {
#pragma unroll
        for (int i = 0; i < V; ++i)
            if (i < count) narrow(x[i], p[i * stride]);
    }
}

// V steps of a row, `at` elements into the tensor; zeros from `count` on. A sum over traversals of
// half precisions lies in float32.
template <class K, int V>
SSNO_DEVICE void load_steps(const Rows& rows, int64_t at, int count, typename K::T (&x)[V]) {
    using E = typename K::E;
    load_as_is(reinterpret_cast<const E*>(rows.p) + at, rows.step.t, count, x);
}
template <class K, int V>
SSNO_DEVICE void load_sum(const Rows& rows, int64_t at, int count, typename K::T (&x)[V]) {
    using T = typename K::T;
    load_as_is(reinterpret_cast<const T*>(rows.p) + at, rows.step.t, count, x);
}
template <class K, int V>
SSNO_DEVICE void store_steps(const Rows& rows, int64_t at, int count, const typename K::T (&x)[V]) {
    using T = typename K::T;
    using E = typename K::E;
    if (sizeof(E) == sizeof(T) || rows.dtype != Dtype::f32)
        store_as_is(reinterpret_cast<E*>(rows.p) + at, rows.step.t, count, x);
    else
        store_as_is(reinterpret_cast<T*>(rows.p) + at, rows.step.t, count, x);
}

// V steps of a row in shared memory
template <class T, int V>
SSNO_DEVICE void put(Shared<T> rows, int at, const T (&x)[V]) {
    constexpr int P = V % Pack<T>::SIZE == 0 ? Pack<T>::SIZE : 1;
#pragma unroll
    for (int j = 0; j < V; j += P) {
        if constexpr (P == 1) {
            rows.store(at + j, x[j]);
        } else {
            Pack<T> pack;
#pragma unroll
            for (int i = 0; i < P; ++i) pack.v[i] = x[j + i];
            rows.store16(at + j, pack);
        }
    }
}
template <class T, int V>
SSNO_DEVICE void get(Shared<T> rows, int at, T (&x)[V]) {
    constexpr int P = V % Pack<T>::SIZE == 0 ? Pack<T>::SIZE : 1;
#pragma unroll
    for (int j = 0; j < V; j += P) {
        if constexpr (P == 1) {
            x[j] = rows.load(at + j);
        } else {
            const Pack<T> pack = rows.load16(at + j);
#pragma unroll
            for (int i = 0; i < P; ++i) x[j + i] = pack.v[i];
        }
    }
}

// D and delta_bias of the tile's channels
template <class K>
SSNO_DEVICE void stage_parameters(const Scan& scan, const Unit& unit) {
    using T = typename K::T;
    const auto stage = [&](const Vector& v, int at, int c) {
        const bool has = v.p != nullptr && unit.has(scan, c);
        const T* p = static_cast<const T*>(v.p);
        shared<T>(at).store(c, has ? p[(unit.first_channel + c) * v.d] : T(0));
    };
    for (int c = thread(); c < 1 << scan.log_channels; c += scan.threads) {
        stage(scan.D, scan.at.D, c);
        stage(scan.bias, scan.at.bias, c);
    }
}

// (S1): delta of V steps with its bias
template <class K, int V>
SSNO_DEVICE void load_step_size(const Scan& scan, const Unit& unit, int k, int c, int t, int count,
                                typename K::T (&s)[V]) {
    using T = typename K::T;
    const Rows& delta = scan.row[DELTA];
    const int64_t at = unit.b * delta.b + place(scan, DELTA, k, t), d = unit.first_channel + c;
    const T bias = shared<T>(scan.at.bias).load(c);
    if (scan.rank == 0) {
        load_steps<K>(delta, at + d * delta.d, count, s);
#pragma unroll
        for (int i = 0; i < V; ++i) s[i] += bias;
        return;
    }
#pragma unroll
    for (int i = 0; i < V; ++i) s[i] = 0;
    const T* weight = static_cast<const T*>(scan.weight.p) + d * scan.weight.d;
    for (int64_t r = 0; r < scan.rank && count > 0; ++r) {
        T factor[V];
        load_steps<K>(delta, at + r * delta.d, count, factor);
        const T w = weight[r * scan.weight.r];
#pragma unroll
        for (int i = 0; i < V; ++i) s[i] = fma(w, factor[i], s[i]);
    }
#pragma unroll
    for (int i = 0; i < V; ++i) s[i] += bias;
}

// A tile of B or C for the states from n0 on, times `factor`: each step of each chunk, or for a
// constant one each channel
template <class K>
SSNO_DEVICE void stage_plane(const Scan& scan, const Unit& unit, const Plane& M, int along,
                             int64_t n0, int64_t t0, Shared<typename K::T> to) {
    using T = typename K::T;
    if (M.constant) {
        const T* p = reinterpret_cast<const T*>(M.p) + unit.first_channel * M.d + n0 * M.n;
        const int count = K::WIDTH << scan.log_channels;
        for (int e = thread(); e < count; e += scan.threads) {
            const int c = e / K::WIDTH, i = e % K::WIDTH, n = i / K::PARTS;
            const bool has = unit.has(scan, c) && n0 + n < scan.states;
            to.store(c * K::PITCH + i, has ? p[c * M.d + n * M.n + i % K::PARTS * M.c] : T(0));
        }
        return;
    }
    using E = typename K::E;
    const int64_t group = unit.first_channel / M.share;
    const E* p = reinterpret_cast<const E*>(M.p) + unit.b * M.b + group * M.d + n0 * M.n;
    const bool states_first = M.n == K::PARTS || M.n == 1;
    // lanes that lie side by side along states, the rest of the warp along time
    constexpr int FEW = K::WIDTH < 4 ? K::WIDTH : 4;
    const int side = states_first && K::WIDTH >= 16 ? 16 : FEW, over = K::WIDTH / side;
    const int count = K::WIDTH << (scan.log_chunks + scan.log_steps);
    const int steps = 1 << scan.log_steps;
    for (int e = thread(); e < count; e += scan.threads) {
        const int high = e / 32, low = e % 32, beside = 32 / side;
        const int i = high % over * side + low % side, n = i / K::PARTS;
        const int kt = high / over * beside + low / side, k = kt >> scan.log_steps;
        const int t = kt - (k << scan.log_steps);
        const bool has = n0 + n < scan.states && t < unit.steps(scan, k, t0);
        const int64_t at = place(scan, along, k, t) + n * M.n + i % K::PARTS * M.c;
        to.store(k * (steps * K::PITCH + K::PAD) + t * K::PITCH + i, has ? widen(p[at]) : T(0));
    }
}

// Where a thread finds B or C of its row's first step, and how far apart those of two steps are
struct Walk {
    int at, step;
    template <class K>
    SSNO_DEVICE static Walk of(const Scan& scan, const Unit& unit, const Plane& M) {
        const int mine = unit.s * K::NT * K::PARTS;
        if (M.constant) return {unit.c * K::PITCH + mine, 0};
        return {unit.k * ((K::PITCH << scan.log_steps) + K::PAD) + mine, K::PITCH};
    }
};

}  // namespace ssno::cuda
