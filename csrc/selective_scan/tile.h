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

// x[step][lane] of rows that lie `stride` elements apart in time; 0 past the end of a row.
template <class T, class S>
void gather_rows(const S* const* rows, int64_t stride, const int64_t* left, int steps, T* x) {
    constexpr int W = Lanes<T>::W;
    bool adjacent = true, same = true, full = true;
    for (int i = 0; i < W; ++i) {
        adjacent &= rows[i] == rows[0] + i;
        same &= rows[i] == rows[0];
        full &= left[i] == steps;
    }
    int t = 0;
    if (full && same) {
        for (; t < steps; ++t) store<T>(x + t * W, splat<T>(widen(rows[0][t * stride])));
    } else if (full && adjacent) {
        for (; t < steps; ++t) store<T>(x + t * W, load_as<T, S>(rows[0] + t * stride));
    } else if (full && (stride == 1 || stride == -1)) {
        for (; t + W <= steps; t += W) {
            Vec<T> block[W];
            const int64_t at = stride == 1 ? t : -(t + W - 1);
            for (int i = 0; i < W; ++i) block[i] = load_as<T, S>(rows[i] + at);
            transpose<T>(block);
            for (int i = 0; i < W; ++i)
                store<T>(x + (t + (stride == 1 ? i : W - 1 - i)) * W, block[i]);
        }
    }
    for (; t < steps; ++t)
        for (int i = 0; i < W; ++i)
            x[t * W + i] = t < left[i] ? T(widen(rows[i][t * stride])) : T(0);
}

// The reverse: rows from x[step][lane], each only as far as it goes.
template <class T, class S>
void scatter_rows(S* const* rows, int64_t stride, const int64_t* left, int lanes, int steps,
                  const T* x) {
    constexpr int W = Lanes<T>::W;
    bool adjacent = lanes == W, full = lanes == W;
    for (int i = 0; i < lanes; ++i) {
        adjacent &= rows[i] == rows[0] + i;
        full &= left[i] == steps;
    }
    int t = 0;
    if (full && adjacent) {
        for (; t < steps; ++t) store_as<T, S>(rows[0] + t * stride, load<T>(x + t * W));
    } else if (full && (stride == 1 || stride == -1)) {
        for (; t + W <= steps; t += W) {
            Vec<T> block[W];
            for (int i = 0; i < W; ++i)
                block[i] = load<T>(x + (t + (stride == 1 ? i : W - 1 - i)) * W);
            transpose<T>(block);
            const int64_t at = stride == 1 ? t : -(t + W - 1);
            for (int i = 0; i < W; ++i) store_as<T, S>(rows[i] + at, block[i]);
        }
    }
    for (; t < steps; ++t)
        for (int i = 0; i < lanes; ++i)
            if (t < left[i]) narrow(x[t * W + i], rows[i][t * stride]);
}

// Call f with a value of the type in which activations lie in memory.
template <class T, class F>
SSNO_INLINE void with_dtype(Dtype dtype, F f) {
    if constexpr (sizeof(T) == 8) {
        f(double{});
    } else {
        if (dtype == Dtype::f32) f(float{});
        if (dtype == Dtype::bf16) f(bf16{});
        if (dtype == Dtype::f16) f(f16{});
    }
}

// Rows of lanes at step t0 of their chunks; `row` is the index along the tensor's second axis.
template <class T, class S, class Row>
SSNO_INLINE void locate_rows(const Tile<T>& tile, const void* p, int64_t b, int64_t d, int64_t t,
                             int64_t t0, int64_t steps, Row row, S** rows, int64_t* left) {
    for (int i = 0; i < Lanes<T>::W; ++i) {
        const int64_t offset = tile.b[i] * b + row(i) * d + (tile.first[i] + t0) * t;
        rows[i] = static_cast<S*>(const_cast<void*>(p)) + offset;
        left[i] = tile.steps_of(i, t0, steps);
    }
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
SSNO_INLINE void prefetch_rows(S* const* rows, int64_t stride, int steps) {
    const bool adjacent = rows[1] == rows[0] + 1;  // a line then holds a step of several rows
    for (int i = 0; i < (adjacent ? 1 : Lanes<T>::W); ++i) prefetch_row(rows[i], stride, steps);
}

// x[step][lane] of an activation from step t0; fetches step t0 + ahead on, which comes next.
template <class T>
void gather(const Params& p, const Tile<T>& tile, const Activation& a, int64_t t0, int steps, T* x,
            int64_t ahead) {
    with_dtype<T>(p.dtype, [&](auto s) {
        using S = decltype(s);
        S* rows[Lanes<T>::W];
        int64_t left[Lanes<T>::W];
        locate_rows(
            tile, a.p, a.b, a.d, a.t, t0, steps, [&](int i) { return tile.d[i]; }, rows, left);
        gather_rows<T, S>(rows, a.t, left, steps, x);
        if (t0 + ahead < 0 || t0 + ahead + STEPS > tile.longest) return;
        for (S*& row : rows) row += ahead * a.t;
        prefetch_rows<T, S>(rows, a.t, STEPS);
    });
}

template <class T>
void scatter(const Params& p, const Tile<T>& tile, const Activation& a, int64_t t0, int steps,
             const T* x) {
    with_dtype<T>(p.dtype, [&](auto s) {
        using S = decltype(s);
        S* rows[Lanes<T>::W];
        int64_t left[Lanes<T>::W];
        locate_rows(
            tile, a.p, a.b, a.d, a.t, t0, steps, [&](int i) { return tile.d[i]; }, rows, left);
        scatter_rows<T, S>(rows, a.t, left, tile.lanes, steps, x);
    });
}

// One row that a whole segment shares (a state of B or C, or a factor of delta) as x[step] where
// `Shared`, else one such row for each lane as x[step][lane].
template <class T, bool Shared, class Row>
void gather_common(const Params& p, const Tile<T>& tile, const Activation& a, Row row, int64_t t0,
                   int steps, T* x) {
    with_dtype<T>(p.dtype, [&](auto s) {
        using S = decltype(s);
        S* rows[Lanes<T>::W];
        int64_t left[Lanes<T>::W];
        locate_rows(tile, a.p, a.b, a.d, a.t, t0, steps, row, rows, left);
        if constexpr (Shared) {
            int t = 0;
            if (a.t == 1)
                for (; t + Lanes<T>::W <= steps; t += Lanes<T>::W)
                    store<T>(x + t, load_as<T, S>(rows[0] + t));
            for (; t < steps; ++t) x[t] = widen(rows[0][t * a.t]);
        } else {
            gather_rows<T, S>(rows, a.t, left, steps, x);
        }
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
