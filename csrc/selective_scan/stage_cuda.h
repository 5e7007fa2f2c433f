// SPDX-License-Identifier: MIT
// The way of steps between global and shared memory.
#pragma once

#include "selective_scan/unit_cuda.h"

namespace ssno::cuda {

// V elements that lie `stride` apart, of which `count` exist: by 16 bytes where V fills those,
// whose stride is 1 or -1 then
template <class T, class E, int V>
SSNO_DEVICE void load_as_is(const E* p, int64_t stride, int count, T (&x)[V]) {
    constexpr int P = Pack<E>::SIZE;
    if constexpr (V >= P) {
        if (count == V) {
            const bool forward = stride == 1;
#pragma unroll
            for (int j = 0; j < V; j += P) {
                const Pack<E> pack = load16(forward ? p + j : p - j - (P - 1));
#pragma unroll
                for (int i = 0; i < P; ++i)
                    x[j + i] = widen(forward ? pack.v[i] : pack.v[P - 1 - i]);
            }
            return;
        }
    }
#pragma unroll
    for (int i = 0; i < V; ++i) x[i] = i < count ? widen(p[i * stride]) : T(0);
}
template <class T, class E, int V>
SSNO_DEVICE void store_as_is(E* p, int64_t stride, int count, const T (&x)[V]) {
    constexpr int P = Pack<E>::SIZE;
    if constexpr (V >= P) {
        if (count == V) {
            const bool forward = stride == 1;
#pragma unroll
            for (int j = 0; j < V; j += P) {
                Pack<E> pack;
#pragma unroll
                for (int i = 0; i < P; ++i)
                    narrow(forward ? x[j + i] : x[j + P - 1 - i], pack.v[i]);
                store16(forward ? p + j : p - j - (P - 1), pack);
            }
            return;
        }
    }
#pragma unroll
    for (int i = 0; i < V; ++i)
        if (i < count) narrow(x[i], p[i * stride]);
}

// Loads of one tensor, of V elements each, that a thread has under way
template <int V>
constexpr int AT_ONCE = V == 8 ? 2 : 4;

// V elements in the order of memory, on their way to registers: nothing waits for a load before it
// is decoded, so what is fetched together is under way together. Halves stay in pairs till then.
template <class E, int V>
struct Raw {
    static constexpr int BYTES = V * static_cast<int>(sizeof(E));
    using Word = std::conditional_t<BYTES % 4 == 0, uint32_t, E>;
    Word word[BYTES / static_cast<int>(sizeof(Word))];
};

// Elements that lie `stride` apart, of which `count` exist: by 16 bytes where V fills those, whose
// stride is 1 or -1 then
template <int V, class E>
SSNO_DEVICE Raw<E, V> fetch(const E* p, int64_t stride, int count) {
    constexpr int P = Pack<E>::SIZE;
    Raw<E, V> raw;
    const bool turned = V > 1 && stride == -1;
    if constexpr (V >= P) {
        if (count == V) {
#pragma unroll
            for (int j = 0; j < V; j += P) {
                const Pack<E> pack = load16((turned ? p - (V - 1) : p) + j);
                memcpy(raw.word + j / P * 4, &pack, 16);
            }
            return raw;
        }
    }
    E x[V];
#pragma unroll
    for (int j = 0; j < V; ++j) {
        const int i = turned ? V - 1 - j : j;
        x[j] = i < count ? p[i * stride] : E{};
    }
    memcpy(&raw, x, sizeof raw);
    return raw;
}
template <class T, class E, int V>
SSNO_DEVICE void decode(const Raw<E, V>& raw, int64_t stride, T (&x)[V]) {
    const bool turned = V > 1 && stride == -1;
    E v[V];
    memcpy(v, &raw, sizeof raw);
#pragma unroll
    for (int i = 0; i < V; ++i) x[i] = widen(turned ? v[V - 1 - i] : v[i]);
}
// V steps of a tensor along time, channel after channel
template <class K>
struct Cursor {
    using T = typename K::T;
    using E = typename K::E;
    char* p;
    int64_t by, stride;
    bool wide;  // T where the others are E: a sum over traversals of half precisions

    SSNO_DEVICE Cursor(const Scan& scan, const Unit& unit, int which, int k, int c, int by_channels,
                       int t)
        : p(scan.row[which].p), by(0), stride(0), wide(false) {
        if (p == nullptr) return;
        const Rows& rows = scan.row[which];
        wide = sizeof(E) != sizeof(T) && rows.dtype == Dtype::f32;
        const int64_t size = wide ? sizeof(T) : sizeof(E);
        p +=
            (unit.b * rows.b + (unit.first_channel + c) * rows.d + place(scan, which, k, t)) * size;
        by = by_channels * rows.d * size;
        stride = rows.step.t;
    }
    SSNO_DEVICE bool given() const { return p != nullptr; }
    template <int V>
    SSNO_DEVICE Raw<E, V> fetch(int count) const {
        return cuda::fetch<V>(reinterpret_cast<const E*>(p), stride, count);
    }
    // Zeros from step `count` on
    template <int V>
    SSNO_DEVICE void load(int count, T (&x)[V]) const {
        load_as_is(reinterpret_cast<const E*>(p), stride, count, x);
    }
    template <int V>
    SSNO_DEVICE void load_sum(int count, T (&x)[V]) const {
        load_as_is(reinterpret_cast<const T*>(p), stride, count, x);
    }
    template <int V>
    SSNO_DEVICE void store(int count, const T (&x)[V]) const {
        if (sizeof(E) == sizeof(T) || !wide)
            store_as_is(reinterpret_cast<E*>(p), stride, count, x);
        else
            store_as_is(reinterpret_cast<T*>(p), stride, count, x);
    }
    SSNO_DEVICE void next() { p += by; }
};

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
        const bool has = v.p != nullptr && c < unit.here;
        const T* p = static_cast<const T*>(v.p);
        shared<T>(at).store(c, has ? p[(unit.first_channel + c) * v.d] : T(0));
    };
    for (int c = thread(); c < 1 << scan.log_channels; c += scan.threads) {
        stage(scan.D, scan.at.D, c);
        stage(scan.bias, scan.at.bias, c);
    }
}

// (S1): delta's bias and, of a low-rank one, all but zeros; `factor` is at row 0 of the factor
// then.
template <class K, int V>
SSNO_DEVICE void complete_step_size(const Scan& scan, const Unit& unit, Cursor<K> factor, int c,
                                    int count, typename K::T (&s)[V]) {
    using T = typename K::T;
    if (scan.rank > 0) {
        const T* weight =
            static_cast<const T*>(scan.weight.p) + (unit.first_channel + c) * scan.weight.d;
        factor.by = scan.row[DELTA].d * sizeof(typename K::E);
        for (int64_t r = 0; r < scan.rank && count > 0; ++r, factor.next()) {
            T x[V];
            factor.load(count, x);
            const T w = weight[r * scan.weight.r];
#pragma unroll
            for (int i = 0; i < V; ++i) s[i] = fma(w, x[i], s[i]);
        }
    }
    const T bias = shared<T>(scan.at.bias).load(c);
#pragma unroll
    for (int i = 0; i < V; ++i) s[i] += bias;
}
// (S1): delta of V steps with its bias; `delta` is at channel c, or at the factor's row 0.
template <class K, int V>
SSNO_DEVICE void load_step_size(const Scan& scan, const Unit& unit, const Cursor<K>& delta, int c,
                                int count, typename K::T (&s)[V]) {
    delta.load(scan.rank == 0 ? count : 0, s);
    complete_step_size<K>(scan, unit, delta, c, count, s);
}
// A cursor of delta; that of a low-rank one does not move from channel to channel.
template <class K>
SSNO_DEVICE Cursor<K> delta_cursor(const Scan& scan, const Unit& unit, int k, int c, int by,
                                   int t) {
    Cursor<K> delta(scan, unit, DELTA, k, c, by, t);
    if (scan.rank > 0) {
        delta.p -= (unit.first_channel + c) * scan.row[DELTA].d * sizeof(typename K::E);
        delta.by = 0;
    }
    return delta;
}

SSNO_DEVICE int count_of(int steps, int t, int most) {
    const int left = steps - t;
    return left < 0 ? 0 : left < most ? left : most;
}

// A tile of B or C for the states from n0 on: each step of each chunk, or, where it is constant,
// each channel; zeros for what does not exist.
template <class K>
SSNO_DEVICE void stage_plane(const Scan& scan, const Unit& unit, const Plane& M, int along,
                             int64_t n0, Shared<typename K::T> to) {
    using T = typename K::T;
    using E = typename K::E;
    const int64_t left = (scan.states - n0) * K::PARTS;
    const int width = left < K::WIDTH ? static_cast<int>(left) : K::WIDTH;
    if (M.constant) {
        const T* p = reinterpret_cast<const T*>(M.p) + unit.first_channel * M.d + n0 * M.n;
        for (int e = thread(); e < K::WIDTH << scan.log_channels; e += scan.threads) {
            const int c = e / K::WIDTH, i = e % K::WIDTH;
            to.store(c * K::PITCH + i, c < unit.here && i < width
                                           ? p[c * M.d + i / K::PARTS * M.n + i % K::PARTS * M.c]
                                           : T(0));
        }
        return;
    }
    const E* const p = reinterpret_cast<const E*>(M.p) + unit.b * M.b +
                       unit.first_channel / M.share * M.d + n0 * M.n;
    const Shared<int64_t> table =
        shared<int64_t>(scan.at.table) + (along << (scan.log_chunks + scan.log_steps));
    const int log_steps = scan.log_steps, size = 1 << (scan.log_chunks + log_steps);
    const auto place_of = [&](int kt) { return kt * K::PITCH + (kt >> log_steps) * K::PAD; };
    const auto left_of = [&](int kt) {
        return steps_of(scan, kt >> log_steps) - (kt & ((1 << log_steps) - 1));
    };
    constexpr int V = Pack<E>::SIZE;
    if (M.order == Order::along_steps) {
        const int groups = size / V;
        for (int e = thread(); e < groups * K::WIDTH; e += scan.threads) {
            const int kt = e % groups * V, i = e / groups;
            T x[V];
            load_as_is(p + (i * M.n + table.load(kt)), M.step.t,
                       i < width ? count_of(left_of(kt), 0, V) : 0, x);
#pragma unroll
            for (int j = 0; j < V; ++j) to.store(place_of(kt) + j * K::PITCH + i, x[j]);
        }
    } else if (M.order == Order::along_states) {
        constexpr int W = V < K::WIDTH ? V : K::WIDTH, GROUPS = K::WIDTH / W;
        for (int e = thread(); e < size * GROUPS; e += scan.threads) {
            const int kt = e / GROUPS, i = e % GROUPS * W;
            T x[W];
            load_as_is(p + (i + table.load(kt)), 1, left_of(kt) > 0 ? count_of(width, i, W) : 0, x);
            put(to, place_of(kt) + i, x);
        }
    } else {
        constexpr int SIDE = 4, OVER = K::WIDTH / SIDE;  // of a warp's lanes 4 lie along states
        for (int e = thread(); e < size * K::WIDTH; e += scan.threads) {
            const int i = e / WARP % OVER * SIDE + e % SIDE;
            const int kt = e / WARP / OVER * (WARP / SIDE) + e % WARP / SIDE;
            const int64_t at = table.load(kt) + i / K::PARTS * M.n + i % K::PARTS * M.c;
            to.store(place_of(kt) + i, i < width && left_of(kt) > 0 ? widen(p[at]) : T(0));
        }
    }
}

// Where a thread finds B or C of its row's first step, and how far apart those of two steps are:
// known when compiling if neither is constant
template <class K, bool Constant = true>
struct Walk {
    int at, stride;
    SSNO_DEVICE Walk(const Scan& scan, const Unit& unit, const Plane& M) {
        at = unit.s * K::NT * K::PARTS +
             (M.constant ? unit.c * K::PITCH : unit.k * ((K::PITCH << scan.log_steps) + K::PAD));
        stride = M.constant ? 0 : K::PITCH;
    }
    SSNO_DEVICE int operator()(int t) const { return at + t * (Constant ? stride : K::PITCH); }
};

}  // namespace ssno::cuda
