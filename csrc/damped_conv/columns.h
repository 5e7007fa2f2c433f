// SPDX-License-Identifier: MIT
// A tile's columns, and the moving of their samples between memory of any layout and arrays
// [step][column] in cache.
#pragma once

#include "damped_conv/plan.h"
#include "ssno/buffer.h"
#include "ssno/dtype.h"

namespace ssno::SSNO_ISA {

template <class T>
constexpr int COLUMNS = 2 * Lanes<T>::W;

inline int64_t row_offset(const Params& p, const Array& a, int64_t row) {
    int64_t offset = 0;
    for (int i = p.axes - 1; i >= 0; --i) {
        offset += row % p.size[i] * a.row[i];
        row /= p.size[i];
    }
    return offset;
}

template <class T, int COLS = COLUMNS<T>>
struct Tile {
    int64_t channel, length;
    int columns;  // that are not idle; they come first
    int64_t row[COLS], segment[COLS], first[COLS];

    Tile(const Params& p, const Plan& plan, int64_t channel_, int64_t index) : channel(channel_) {
        int k = 0;
        while (index >= plan.span[k].tiles) index -= plan.span[k++].tiles;
        const Span& span = plan.span[k];
        length = span.length;
        const int64_t left = span.count * p.rows - index * COLS;
        columns = static_cast<int>(std::min<int64_t>(COLS, left));
        for (int i = 0; i < COLS; ++i) {
            const int64_t column = index * COLS + (i < columns ? i : 0);
            row[i] = column % p.rows;
            segment[i] = span.index + column / p.rows;
            first[i] = span.first + column / p.rows * span.length;
        }
    }
};

// Samples of each row that are fetched early: hardware follows fewer streams than there are lanes.
constexpr int64_t AHEAD = 128;

// x[step][lane] of rows whose samples lie `stride` apart; steps of x lie `pitch` apart.
template <class T, class S>
void gather_rows(const S* const* rows, int64_t stride, int64_t steps, T* x, int64_t pitch) {
    constexpr int W = Lanes<T>::W;
    bool adjacent = true;
    for (int i = 0; i < W; ++i) adjacent &= rows[i] == rows[0] + i;
    int64_t t = 0;
    if (adjacent) {
        for (; t < steps; ++t) store<T>(x + t * pitch, load_as<T, S>(rows[0] + t * stride));
    } else if (stride == 1) {
        for (; t + W <= steps; t += W) {
            Vec<T> block[W];
            for (int i = 0; i < W; ++i) __builtin_prefetch(rows[i] + t + AHEAD);
            for (int i = 0; i < W; ++i) block[i] = load_as<T, S>(rows[i] + t);
            transpose<T>(block);
            for (int i = 0; i < W; ++i) store<T>(x + (t + i) * pitch, block[i]);
        }
    }
    for (; t < steps; ++t)
        for (int i = 0; i < W; ++i) x[t * pitch + i] = T(widen(rows[i][t * stride]));
}

template <class T, class S>
void scatter_rows(S* const* rows, int64_t stride, int lanes, int64_t steps, const T* x,
                  int64_t pitch) {
    constexpr int W = Lanes<T>::W;
    bool adjacent = lanes == W;
    for (int i = 0; i < lanes; ++i) adjacent &= rows[i] == rows[0] + i;
    int64_t t = 0;
    if (adjacent) {
        for (; t < steps; ++t) store_as<T, S>(rows[0] + t * stride, load<T>(x + t * pitch));
    } else if (stride == 1) {
        for (; t + W <= steps; t += W) {
            Vec<T> block[W];
            for (int i = 0; i < W; ++i) block[i] = load<T>(x + (t + i) * pitch);
            transpose<T>(block);
            for (int i = 0; i < lanes; ++i) store_as<T, S>(rows[i] + t, block[i]);
        }
    }
    for (; t < steps; ++t)
        for (int i = 0; i < lanes; ++i) narrow(x[t * pitch + i], rows[i][t * stride]);
}

// Addresses of step t0 of the tile's columns
template <class T, int COLS, class S>
void locate(const Params& p, const Tile<T, COLS>& tile, const Array& a, int64_t t0, S** rows) {
    for (int i = 0; i < COLS; ++i)
        rows[i] = static_cast<S*>(a.p) + row_offset(p, a, tile.row[i]) + tile.channel * a.channel +
                  (tile.first[i] + t0) * a.step;
}

// All samples of the tile's columns as x[step][column], steps `pitch` apart; 0 in idle columns
template <class T, int COLS>
void gather(const Params& p, const Tile<T, COLS>& tile, const Array& a, T* x,
            int64_t pitch = COLS) {
    constexpr int W = Lanes<T>::W;
    with_dtype<T>(p.dtype, [&](auto s) {
        using S = decltype(s);
        S* rows[COLS];
        locate<T, COLS, S>(p, tile, a, 0, rows);
        for (int v = 0; v < COLS; v += W)
            if (v < tile.columns) gather_rows<T, S>(rows + v, a.step, tile.length, x + v, pitch);
    });
    for (int64_t t = 0; t < tile.length && tile.columns < COLS; ++t)
        std::memset(x + t * pitch + tile.columns, 0, (COLS - tile.columns) * sizeof(T));
}

// `steps` samples from step t0 on, to memory
template <class T, int COLS>
void scatter(const Params& p, const Tile<T, COLS>& tile, const Array& a, int64_t t0, int64_t steps,
             const T* x, int64_t pitch = COLS) {
    constexpr int W = Lanes<T>::W;
    with_dtype<T>(p.dtype, [&](auto s) {
        using S = decltype(s);
        S* rows[COLS];
        locate<T, COLS, S>(p, tile, a, t0, rows);
        for (int v = 0; v < tile.columns; v += W)
            scatter_rows<T, S>(rows + v, a.step, std::min(W, tile.columns - v), steps, x + v,
                               pitch);
    });
}

// Run body(i) for all i < count on the caller's threads.
template <class F>
void parallel(const Params& p, int64_t count, const F& body) {
    p.parallel(count, &body,
               [](const void* context, int64_t i) { (*static_cast<const F*>(context))(i); });
}

// Split tasks 0 .. count - 1 into one run for each thread.
template <class F>
void in_runs(const Params& p, int64_t count, const F& body) {
    const int64_t runs = std::min<int64_t>(p.threads, count);
    if (runs > 0)
        parallel(p, runs, [&](int64_t i) { body(count * i / runs, count * (i + 1) / runs); });
}

}  // namespace ssno::SSNO_ISA
