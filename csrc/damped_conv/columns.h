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

// A row's place on the axes that rows are counted over
inline void place_of(const Params& p, int64_t row, int64_t* place) {
    for (int i = p.axes - 1; i >= 0; --i) {
        place[i] = row % p.size[i];
        row /= p.size[i];
    }
}
inline int64_t row_offset(const Params& p, const Array& a, int64_t row) {
    int64_t place[MAX_AXES], offset = 0;
    place_of(p, row, place);
    for (int i = 0; i < p.axes; ++i) offset += place[i] * a.row[i];
    return offset;
}

// Columns follow each other along the rows, then from segment to segment.
template <class T, int COLS = COLUMNS<T>>
struct Tile {
    int64_t channel, length;
    int columns;                  // that are not idle; they come first
    int64_t row, segment, first;  // of the first column; its first sample
    int64_t place[MAX_AXES];

    Tile(const Params& p, const Plan& plan, int64_t channel_, int64_t index) : channel(channel_) {
        int k = 0;
        while (index >= plan.span[k].tiles) index -= plan.span[k++].tiles;
        const Span& span = plan.span[k];
        const int64_t column = index * COLS, before = column / p.rows;
        length = span.length;
        columns = static_cast<int>(std::min<int64_t>(COLS, span.count * p.rows - column));
        row = column - before * p.rows;
        segment = span.index + before;
        first = span.first + before * length;
        place_of(p, row, place);
    }

    // visit(column, row, segment) for columns that are not idle
    template <class F>
    void over_columns(const Params& p, F visit) const {
        int64_t r = row, s = segment;
        for (int i = 0; i < columns; ++i) {
            visit(i, r, s);
            if (++r < p.rows) continue;
            r = 0;
            ++s;
        }
    }
};

// Samples of each row that are fetched early: hardware follows fewer streams than there are lanes.
// Of shorter rows it is the next tile's.
constexpr int64_t AHEAD = 128;

// x[step][lane] of rows whose samples lie `stride` apart; steps of x lie `pitch` apart.
template <class T, class S>
void gather_rows(const S* const* rows, int64_t stride, int64_t steps, int64_t ahead, T* x,
                 int64_t pitch) {
    constexpr int W = Lanes<T>::W;
    bool adjacent = true;
    for (int i = 0; i < W; ++i) adjacent &= rows[i] == rows[0] + i;
    int64_t t = 0;
    if (adjacent) {
        for (; t < steps; ++t) store<T>(x + t * pitch, load_as<T, S>(rows[0] + t * stride));
    } else if (stride == 1) {
        for (; t + W <= steps; t += W) {
            Vec<T> block[W];
            for (int i = 0; i < W; ++i) __builtin_prefetch(rows[i] + t + ahead);
            for (int i = 0; i < W; ++i) block[i] = load_as<T, S>(rows[i] + t);
            transpose<T>(block);
            for (int i = 0; i < W; ++i) store<T>(x + (t + i) * pitch, block[i]);
        }
    }
    for (; t < steps; ++t)
        for (int i = 0; i < W; ++i) x[t * pitch + i] = T(widen(rows[i][t * stride]));
}

// As many bytes are not in the cache any more when somebody reads them.
constexpr int64_t PAST_CACHES = 16 << 20;

// A store that leaves the caches alone, and fetches no line only to overwrite it
template <class T, class S>
SSNO_INLINE void store_past(S* p, Vec<T> v) {
#if defined(SSNO_AVX512) && SSNO_VECTOR_BYTES == 64
    if (std::is_same_v<S, T> && reinterpret_cast<uintptr_t>(p) % sizeof v == 0) {
        _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
        return;
    }
#endif
    store_as<T, S>(p, v);
}

template <class T, class S>
void scatter_rows(S* const* rows, int64_t stride, int lanes, int64_t steps, bool past, const T* x,
                  int64_t pitch) {
    constexpr int W = Lanes<T>::W;
    const auto put = [past](S* p, Vec<T> v) {
        past ? store_past<T, S>(p, v) : store_as<T, S>(p, v);
    };
    bool adjacent = lanes == W;
    for (int i = 0; i < lanes; ++i) adjacent &= rows[i] == rows[0] + i;
    int64_t t = 0;
    if (adjacent) {
        for (; t < steps; ++t) put(rows[0] + t * stride, load<T>(x + t * pitch));
    } else if (stride == 1) {
        for (; t + W <= steps; t += W) {
            Vec<T> block[W];
            for (int i = 0; i < W; ++i) block[i] = load<T>(x + (t + i) * pitch);
            transpose<T>(block);
            for (int i = 0; i < lanes; ++i) put(rows[i] + t, block[i]);
        }
    }
    for (; t < steps; ++t)
        for (int i = 0; i < lanes; ++i) narrow(x[t * pitch + i], rows[i][t * stride]);
}

// Addresses of step t0 of the tile's columns; idle ones have the first one's. Without divisions:
// for short rows they would cost more than all else.
template <class T, int COLS, class S>
void locate(const Params& p, const Tile<T, COLS>& tile, const Array& a, int64_t t0, S** rows) {
    const int inner = p.axes - 1;
    S* const base = static_cast<S*>(a.p);
    int64_t place[MAX_AXES], at = tile.channel * a.channel + (tile.first + t0) * a.step;
    for (int i = 0; i < p.axes; ++i) at += (place[i] = tile.place[i]) * a.row[i];
    for (int i = 0; i < tile.columns;) {
        const int64_t run = std::min<int64_t>(tile.columns - i, p.size[inner] - place[inner]);
        for (int64_t j = 0; j < run; ++j) rows[i + j] = base + at + j * a.row[inner];
        i += static_cast<int>(run);
        at += run * a.row[inner];
        place[inner] += run;
        for (int axis = inner; place[axis] == p.size[axis]; --axis) {
            at -= p.size[axis] * a.row[axis];
            place[axis] = 0;
            if (axis == 0) {
                at += tile.length * a.step;  // the rows again, a segment later
                break;
            }
            at += a.row[axis - 1];
            ++place[axis - 1];
        }
    }
    for (int i = tile.columns; i < COLS; ++i) rows[i] = rows[0];
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
        const int64_t ahead = tile.length > AHEAD ? AHEAD : COLS * a.row[p.axes - 1];
        for (int v = 0; v < COLS; v += W)
            if (v < tile.columns)
                gather_rows<T, S>(rows + v, a.step, tile.length, ahead, x + v, pitch);
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
        const int64_t numbers = p.rows * p.channels * p.length;
        const bool past = numbers * static_cast<int64_t>(sizeof(S)) >= PAST_CACHES;
        for (int v = 0; v < tile.columns; v += W)
            scatter_rows<T, S>(rows + v, a.step, std::min(W, tile.columns - v), steps, past, x + v,
                               pitch);
    });
}

// Run body(i) for all i < count on the caller's threads.
template <class F>
void parallel(const Params& p, int64_t count, const F& body) {
    p.parallel(count, &body,
               [](const void* context, int64_t i) { (*static_cast<const F*>(context))(i); });
}

// Split tasks 0 .. count - 1 into one run for each thread. What a run stored past the caches is
// there for the others when it ends.
template <class F>
void in_runs(const Params& p, int64_t count, const F& body) {
    const int64_t runs = std::min<int64_t>(p.threads, count);
    if (runs <= 0) return;
    parallel(p, runs, [&](int64_t i) {
        body(count * i / runs, count * (i + 1) / runs);
#if defined(SSNO_AVX512)
        _mm_sfence();
#endif
    });
}

}  // namespace ssno::SSNO_ISA
