// SPDX-License-Identifier: MIT
// A tile: the rows that a vector's lanes carry in lockstep, and the moving of their samples between
// memory of any layout and arrays [step][lane] in cache.
#pragma once

#include "selective_scan/plan.h"
#include "ssno/dtype.h"
#include "ssno/number.h"

namespace ssno::SSNO_ISA {

using namespace ssno::selective_scan;

template <class T>
struct Tile {
    static constexpr int W = Lanes<T>::W;
    int64_t b[W], d[W], run[W], chunk[W];
    int64_t first[W];  // the chunk's first step
    int64_t count[W];  // its steps; 0 for an idle lane, which repeats the addresses of lane 0
    int64_t longest;   // largest count
    int lanes;         // lanes that are not idle; they come first
    bool one_segment;  // all lanes read the same B and C
    bool even;         // all lanes but idle ones have the same count
    bool together;     // all lanes are neighbouring channels of one segment, at the same step

    Tile(const Params& p, const Plan& plan, int64_t index) {
        lanes = 0;
        longest = 0;
        one_segment = plan.packed == 1;
        for (int64_t k = 0; k < plan.packed; ++k) {
            const int64_t s = index / plan.blocks * plan.packed + k;
            if (s >= plan.segments) break;
            const int64_t c = s % plan.chunks, r = s / plan.chunks % plan.runs;
            const int64_t begin = index % plan.blocks * W;
            const int64_t end = std::min<int64_t>(begin + W, plan.per_run);
            for (int64_t i = begin; i < end; ++i, ++lanes) {
                b[lanes] = s / plan.chunks / plan.runs;
                d[lanes] = r * plan.per_run + i;
                run[lanes] = r;
                chunk[lanes] = c;
                first[lanes] = c * plan.chunk;
                count[lanes] = std::min(plan.chunk, p.length - first[lanes]);
                longest = std::max(longest, count[lanes]);
            }
        }
        even = true;
        for (int i = 0; i < lanes; ++i) even &= count[i] == longest;
        together = one_segment && even;
        for (int i = lanes; i < W; ++i) {
            b[i] = b[0], d[i] = d[0], run[i] = run[0], chunk[i] = chunk[0], first[i] = first[0];
            count[i] = 0;
        }
    }

    // Steps of lane i within [t0, t0 + steps); those of lane 0 for an idle lane, to be safe to
    // read.
    int64_t steps_of(int i, int64_t t0, int64_t steps) const {
        return std::clamp<int64_t>((i < lanes ? count[i] : count[0]) - t0, 0, steps);
    }
};

// Where each lane's row of an activation stands at one step, and how the rows lie.
template <class T, class S>
struct Rows {
    static constexpr int W = Lanes<T>::W;
    S* at[W];
    int64_t stride;   // in time, for as long as the activation's path runs on
    int64_t left[W];  // steps that each row still has, up to those asked for; not set if full
    bool full;        // every row has all of them
    bool adjacent;    // each row stands one element after the one before

    Rows() : stride(0), full(true), adjacent(false) {}

    // `row` gives a lane's index along the tensor's second axis.
    template <class Row>
    SSNO_INLINE Rows(const Tile<T>& tile, const Activation& a, Row row, int64_t t0, int steps)
        : stride(a.path.t), full(true), adjacent(true) {
        S* const p = static_cast<S*>(a.p);
        if (tile.together) {
            S* const first = p + tile.b[0] * a.b + row(0) * a.d + a.path.at(tile.first[0] + t0);
            const int64_t apart = (row(1) - row(0)) * a.d;
            for (int i = 0; i < W; ++i) at[i] = first + (i < tile.lanes ? i * apart : 0);
            adjacent = apart == 1 && tile.lanes == W;
            return;
        }
        for (int i = 0; i < W; ++i) {
            at[i] = p + tile.b[i] * a.b + row(i) * a.d + a.path.at(tile.first[i] + t0);
            left[i] = tile.steps_of(i, t0, steps);
            full &= left[i] == steps;
            adjacent &= at[i] == at[0] + i;
        }
    }
    SSNO_INLINE bool has(int i, int t) const { return full || t < left[i]; }
};

// x[step][lane] of the rows, a step `pitch` after the one before; 0 past the end of a row
template <class T, class S>
void gather_rows(const Rows<T, S>& rows, int steps, T* x, int64_t pitch = Lanes<T>::W) {
    constexpr int W = Lanes<T>::W;
    const int64_t stride = rows.stride;
    int t = 0;
    if (rows.full && rows.adjacent) {
        for (; t < steps; ++t) store<T>(x + t * pitch, load_as<T, S>(rows.at[0] + t * stride));
    } else if (rows.full && (stride == 1 || stride == -1)) {
        for (; t + W <= steps; t += W) {
            Vec<T> block[W];
            const int64_t at = stride == 1 ? t : -(t + W - 1);
            for (int i = 0; i < W; ++i) block[i] = load_as<T, S>(rows.at[i] + at);
            transpose<T>(block);
            for (int i = 0; i < W; ++i)
                store<T>(x + (t + (stride == 1 ? i : W - 1 - i)) * pitch, block[i]);
        }
    }
    for (; t < steps; ++t)
        for (int i = 0; i < W; ++i)
            x[t * pitch + i] = rows.has(i, t) ? T(widen(rows.at[i][t * stride])) : T(0);
}

// The reverse: rows from x[step][lane], each only as far as it goes.
template <class T, class S>
void scatter_rows(const Rows<T, S>& rows, int lanes, int steps, const T* x,
                  int64_t pitch = Lanes<T>::W) {
    constexpr int W = Lanes<T>::W;
    const int64_t stride = rows.stride;
    int t = 0;
    if (rows.full && rows.adjacent && lanes == W) {
        for (; t < steps; ++t) store_as<T, S>(rows.at[0] + t * stride, load<T>(x + t * pitch));
    } else if (rows.full && (stride == 1 || stride == -1)) {
        for (; t + W <= steps; t += W) {
            Vec<T> block[W];
            for (int i = 0; i < W; ++i)
                block[i] = load<T>(x + (t + (stride == 1 ? i : W - 1 - i)) * pitch);
            transpose<T>(block);
            const int64_t at = stride == 1 ? t : -(t + W - 1);
            for (int i = 0; i < lanes; ++i) store_as<T, S>(rows.at[i] + at, block[i]);
        }
    }
    for (; t < steps; ++t)
        for (int i = 0; i < lanes; ++i)
            if (rows.has(i, t)) narrow(x[t * pitch + i], rows.at[i][t * stride]);
}

// Ask for the cache lines of `steps` steps of each row. A stage computes for long on a few lines of
// each of many rows, which is more streams than the hardware follows. To the second level: rows a
// power of two apart would displace one another in the first.
template <class S>
SSNO_INLINE void prefetch_row(const S* row, int64_t stride, int steps) {
    const int per_line = stride == 1 || stride == -1 ? 64 / sizeof(S) : 1;
    for (int t = 0; t < steps; t += per_line) __builtin_prefetch(row + t * stride, 0, 2);
}
template <class T, class S>
SSNO_INLINE void prefetch_rows(const Rows<T, S>& rows, int steps) {
    // of adjacent rows, a line holds a step of several
    for (int i = 0; i < (rows.adjacent ? 1 : Lanes<T>::W); ++i)
        prefetch_row(rows.at[i], rows.stride, steps);
}

// Call f(t, steps) for each part of the steps from t0 on in which every lane's path runs straight:
// t counts from t0. Lanes at different steps of a path with turns go step by step.
template <class T, class F>
SSNO_INLINE void along(const Path& path, const Tile<T>& tile, int64_t t0, int steps, F f) {
    if (path.inner == Path::ENDLESS) return f(0, steps);
    for (int t = 0; t < steps;) {
        const int64_t run = tile.together ? path.run(tile.first[0] + t0 + t) : 1;
        const int count = static_cast<int>(std::min<int64_t>(run, steps - t));
        f(t, count);
        t += count;
    }
}

// x[step][lane] of an activation from step t0; fetches step t0 + ahead on, which comes next.
template <class T>
void gather(const Tile<T>& tile, const Activation& a, int64_t t0, int steps, T* x, int64_t ahead) {
    with_dtype<T>(a.dtype, [&](auto s) {
        using S = decltype(s);
        const auto channel = [&](int i) { return tile.d[i]; };
        along(a.path, tile, t0, steps, [&](int t, int count) {
            gather_rows<T, S>(Rows<T, S>(tile, a, channel, t0 + t, count), count,
                              x + t * Lanes<T>::W);
        });
        const int64_t next = tile.first[0] + t0 + ahead;
        if (t0 + ahead >= 0 && t0 + ahead + STEPS <= tile.longest && a.path.run(next) >= STEPS)
            prefetch_rows<T, S>(Rows<T, S>(tile, a, channel, t0 + ahead, STEPS), STEPS);
    });
}

template <class T>
void scatter(const Tile<T>& tile, const Activation& a, int64_t t0, int steps, const T* x) {
    with_dtype<T>(a.dtype, [&](auto s) {
        using S = decltype(s);
        const auto channel = [&](int i) { return tile.d[i]; };
        along(a.path, tile, t0, steps, [&](int t, int count) {
            scatter_rows<T, S>(Rows<T, S>(tile, a, channel, t0 + t, count), tile.lanes, count,
                               x + t * Lanes<T>::W);
        });
    });
}

// One row that a whole segment shares (a state of B or C, or a factor of delta) as x[step] where
// `Shared`, else one such row for each lane as x[step][lane].
template <class T, bool Shared, class Row>
void gather_common(const Tile<T>& tile, const Activation& a, Row row, int64_t t0, int steps, T* x) {
    with_dtype<T>(a.dtype, [&](auto s) {
        using S = decltype(s);
        along(a.path, tile, t0, steps, [&](int begin, int count) {
            if constexpr (!Shared) {
                gather_rows<T, S>(Rows<T, S>(tile, a, row, t0 + begin, count), count,
                                  x + begin * Lanes<T>::W);
                return;
            }
            const S* from = static_cast<const S*>(a.p) + tile.b[0] * a.b + row(0) * a.d +
                            a.path.at(tile.first[0] + t0 + begin);
            T* to = x + begin;
            int t = 0;
            if (a.path.t == 1)
                for (; t + Lanes<T>::W <= count; t += Lanes<T>::W)
                    store<T>(to + t, load_as<T, S>(from + t));
            for (; t < count; ++t) to[t] = widen(from[t * a.path.t]);
        });
    });
}

// One value of each lane from tensors of the state's dtype
template <class T, class Offset>
SSNO_INLINE Vec<T> gather_lanes(const void* p, Offset offset) {
    Vec<T> v;
    for (int i = 0; i < Lanes<T>::W; ++i) v[i] = static_cast<const T*>(p)[offset(i)];
    return v;
}

}  // namespace ssno::SSNO_ISA
