// SPDX-License-Identifier: MIT
// Panels: a sweep that goes down the columns of a grid stored by rows would use one element of each
// cache line that it touches. So as many columns as a vector has lanes are moved together, whole
// lines at a time, through a buffer in cache that holds them in the order of the sweep.
#pragma once

#include <optional>

#include "selective_scan/tile.h"
#include "ssno/buffer.h"

namespace ssno::SSNO_ISA {

// How a path is cut into panels. A column is `span` steps; the next one lies `apart` elements on.
struct Columns {
    const Path path;
    const int64_t length;         // of the path
    int64_t span = 0, apart = 0;  // span = 0: panels would gain nothing, or be too large
    int64_t together = 0;         // columns that follow one another in memory before the path turns

    Columns(const Path& way, int64_t steps_in_all) : path(way), length(steps_in_all) {
        constexpr int64_t LARGEST = 2048;
        const auto neighbours = [](int64_t stride) { return stride == 1 || stride == -1; };
        if (path.inner == Path::ENDLESS || neighbours(path.t)) return;
        const bool outermost = !neighbours(path.t1) && path.middle != Path::ENDLESS;
        const int64_t steps = outermost ? path.inner * path.middle : path.inner;
        apart = outermost ? path.t2 : path.t1;
        if (!neighbours(apart) || steps > LARGEST) return;
        span = steps;
        together = outermost ? length / span : std::min(path.middle, length / span);
    }
};

// The steps [begin, end) of a path: as many whole columns as a panel holds
struct Piece {
    int64_t begin = 0, end = 0;
    int64_t at = 0;          // where its first step lies; row r of its columns lies path.at(r) on
    bool has_next = false;   // whether the sweep comes to another piece after this one,
    int64_t next_begin = 0;  // that one's first step,
    int64_t next = 0;        // and where it lies

    bool holds(int64_t step) const { return begin <= step && step < end; }
    static Piece around(const Columns& c, int64_t step, int64_t most, bool backwards) {
        Piece piece = alone(c, step, most);
        piece.has_next = backwards ? piece.begin > 0 : piece.end < c.length;
        if (!piece.has_next) return piece;
        const Piece following = alone(c, backwards ? piece.begin - 1 : piece.end, most);
        piece.next_begin = following.begin, piece.next = following.at;
        return piece;
    }

    // Ask for the lines of the next piece, a share of its rows for each step of this one: `fetch`
    // is given what lies `offset` on.
    template <class F>
    SSNO_INLINE void fetch_next(const Columns& c, int64_t step, int steps, bool backwards,
                                F fetch) const {
        constexpr int64_t MOST_ROWS = 256;  // of more, the cache would lose them again
        if (!has_next || c.span > MOST_ROWS) return;
        const int64_t count = (end - begin) / c.span;
        const int64_t done = backwards ? end - step - steps : step - begin;
        for (int64_t r = done / count; r < (done + steps) / count; ++r) fetch(next + c.path.at(r));
    }

  private:
    static Piece alone(const Columns& c, int64_t step, int64_t most) {
        const int64_t column = step / c.span, in_turn = column % c.together / most * most;
        const int64_t begin = (column / c.together * c.together + in_turn) * c.span;
        const int64_t end = begin + std::min(most, c.together - in_turn) * c.span;
        return {begin, end, c.path.at(begin)};
    }
};

// Call f(piece, t, count) for the parts of steps t0 .. t0 + steps - 1 that lie in one panel each,
// in the order of the sweep; t counts from t0, which is `first` on the path. `last` remembers.
template <class F>
SSNO_INLINE void over_pieces(const Columns& columns, int64_t most, int64_t first, int steps,
                             bool backwards, Piece& last, F f) {
    for (int done = 0; done < steps;) {
        const int64_t step = first + (backwards ? steps - 1 - done : done);
        if (!last.holds(step)) last = Piece::around(columns, step, most, backwards);
        const int from =
            backwards ? static_cast<int>(std::max<int64_t>(0, last.begin - first)) : done;
        const int to =
            backwards ? steps - done : static_cast<int>(std::min<int64_t>(steps, last.end - first));
        f(last, from, to - from);
        done += to - from;
    }
}

// One activation's panel: [step][lane], to read from or to write to
template <class T>
struct Panel {
    static constexpr int W = Lanes<T>::W;
    const Activation a;
    const Columns columns;
    std::optional<Buffer<T>> room;
    Piece last, held;           // last asked for; what the panel holds
    int64_t low = 0, high = 0;  // steps that were written and are not yet in memory

    Panel(const Activation& activation, int64_t length)
        : a(activation), columns(activation.path, length) {}

    // Whether the lanes of a tile go by panel; else they are moved one by one.
    bool serves(const Tile<T>& tile) const { return columns.span > 0 && tile.together && a.d != 1; }

    void forget() { held = {}, low = high = 0; }
    T* at(int64_t step) const { return *room + (step - held.begin) * W; }
    int count() const { return static_cast<int>((held.end - held.begin) / columns.span); }

    void hold(const Piece& piece) {
        if (!room) room.emplace(columns.span * W * W);
        held = piece;
    }

    // Rows of the lanes at row r of the columns, going from column to column
    template <class S>
    Rows<T, S> across(const Tile<T>& tile, int64_t r) const {
        const int64_t step = held.begin + r - tile.first[0];
        Rows<T, S> rows(tile, a, [&](int i) { return tile.d[i]; }, step, 1);
        rows.stride = columns.apart;
        return rows;
    }

    template <class S>
    void load(const Tile<T>& tile, const Piece& piece) {
        if (piece.begin == held.begin && piece.end == held.end) return;
        hold(piece);
        for (int64_t r = 0; r < columns.span; ++r)
            gather_rows<T, S>(across<S>(tile, r), count(), *room + r * W, columns.span * W);
    }

    template <class S>
    void flush(const Tile<T>& tile) {
        if (high > low && low == held.begin && high == held.end) {
            for (int64_t r = 0; r < columns.span; ++r)
                scatter_rows<T, S>(across<S>(tile, r), tile.lanes, count(), *room + r * W,
                                   columns.span * W);
        } else {
            const auto channel = [&](int i) { return tile.d[i]; };
            for (int64_t s = low; s < high; ++s)
                scatter_rows<T, S>(Rows<T, S>(tile, a, channel, s - tile.first[0], 1), tile.lanes,
                                   1, at(s));
        }
        forget();
    }

    template <class S>
    void put(const Tile<T>& tile, const Piece& piece, int64_t step, int steps, const T* x) {
        if (piece.begin != held.begin || piece.end != held.end) {
            flush<S>(tile);
            hold(piece);
            low = step, high = step + steps;
        }
        low = std::min(low, step), high = std::max(high, step + steps);
        std::memcpy(at(step), x, steps * W * sizeof(T));
    }
};

// x[step][lane] of the panel's activation from step t0; fetches step t0 + ahead on, which is next.
template <class T>
void gather(const Tile<T>& tile, Panel<T>& panel, int64_t t0, int steps, T* x, int64_t ahead) {
    if (!panel.serves(tile)) return gather(tile, panel.a, t0, steps, x, ahead);
    constexpr int W = Lanes<T>::W;
    with_dtype<T>(panel.a.dtype, [&](auto s) {
        const int64_t first = tile.first[0] + t0;
        over_pieces(panel.columns, W, first, steps, ahead < 0, panel.last,
                    [&](const Piece& piece, int t, int count) {
                        using S = decltype(s);
                        panel.template load<S>(tile, piece);
                        std::memcpy(x + t * W, panel.at(first + t), count * W * sizeof(T));
                        const S* const p = static_cast<const S*>(panel.a.p) +
                                           tile.b[0] * panel.a.b + tile.d[0] * panel.a.d;
                        piece.fetch_next(
                            panel.columns, first + t, count, ahead < 0, [&](int64_t offset) {
                                for (int i = 0; i < tile.lanes; ++i)
                                    __builtin_prefetch(p + offset + i * panel.a.d, 0, 3);
                            });
                    });
    });
}

// The reverse; what is left in the panel goes to memory with `flush`.
template <class T>
void scatter(const Tile<T>& tile, Panel<T>& panel, int64_t t0, int steps, const T* x,
             bool backwards) {
    if (!panel.serves(tile)) return scatter(tile, panel.a, t0, steps, x);
    constexpr int W = Lanes<T>::W;
    with_dtype<T>(panel.a.dtype, [&](auto s) {
        const int64_t first = tile.first[0] + t0;
        over_pieces(panel.columns, W, first, steps, backwards, panel.last,
                    [&](const Piece& piece, int t, int count) {
                        panel.template put<decltype(s)>(tile, piece, first + t, count, x + t * W);
                    });
    });
}

template <class T>
void flush(const Tile<T>& tile, Panel<T>& panel) {
    with_dtype<T>(panel.a.dtype, [&](auto s) { panel.template flush<decltype(s)>(tile); });
}

// The panels of rows that all lanes share, on one path: the states of B or C, the factors of a
// low-rank delta. Here a vector's lanes are steps.
template <class T>
struct SharedPanels {
    static constexpr int W = Lanes<T>::W;
    const Columns columns;
    const int64_t rows, pieces;  // pieces that are held of each row
    std::optional<Buffer<T>> room;
    std::optional<Buffer<int64_t>> begins;  // of what is held of each row; -1 for nothing
    int64_t b = -1, run = -1;               // whose rows these are
    Piece last;

    SharedPanels(const Path& path, int64_t length, int64_t how_many)
        : columns(path, length), rows(how_many), pieces(pieces_held(columns, how_many)) {}

    // All of them where the next tile, which reads the same rows, will find them near
    static int64_t pieces_held(const Columns& c, int64_t rows) {
        constexpr int64_t MOST_BYTES = 512 << 10;
        if (c.span == 0 || rows * c.length * int64_t(sizeof(T)) > MOST_BYTES) return 1;
        return (c.length + c.span * W - 1) / (c.span * W);
    }

    int64_t pitch() const { return columns.span * W; }  // between pieces
    void forget() {
        for (int64_t i = 0; begins && i < rows * pieces; ++i) (*begins)[i] = -1;
    }
    // What is held serves the next tile, too, if that reads the same rows.
    void begin(const Tile<T>& tile) {
        if (tile.b[0] != b || tile.run[0] != run) forget();
        b = tile.b[0], run = tile.run[0];
    }

    int64_t place(int64_t begin, int64_t row) const {
        return row * pieces + begin / pitch() % pieces;
    }
    bool holds(int64_t begin, int64_t row) const {
        return begins && (*begins)[place(begin, row)] == begin;
    }

    // The steps of `piece` of row `row`, which starts at p
    template <class S>
    const T* load(const S* p, const Piece& piece, int64_t row) {
        if (!room) {
            room.emplace(rows * pieces * pitch());
            begins.emplace(rows * pieces);
            forget();
        }
        const int64_t at = place(piece.begin, row);
        T* const x = *room + at * pitch();
        if ((*begins)[at] == piece.begin) return x;
        (*begins)[at] = piece.begin;
        const int64_t span = columns.span, count = (piece.end - piece.begin) / span;
        for (int64_t r = 0; r < span; r += W) {
            const int64_t left = std::min<int64_t>(W, span - r);
            Rows<T, S> steps;
            for (int64_t i = 0; i < W; ++i)
                steps.at[i] =
                    const_cast<S*>(p) + piece.at + columns.path.at(r + (i < left ? i : 0));
            steps.stride = columns.apart;
            if (left == W) {
                gather_rows<T, S>(steps, static_cast<int>(count), x + r, span);
                continue;
            }
            for (int64_t column = 0; column < count; ++column)
                for (int64_t i = 0; i < left; ++i)
                    x[column * span + r + i] = widen(steps.at[i][column * columns.apart]);
        }
        return x;
    }
};

// Rows of one tensor that a whole segment shares, x[row][step] with `pitch` between them: `a` is
// the first of them, `row` gives each one's offset from it, `index` the first one's place among the
// panels.
template <class T, class Row>
void gather_shared(const Tile<T>& tile, const Activation& a, int64_t index, int rows, Row row,
                   int64_t t0, int steps, T* x, int64_t pitch, int64_t ahead,
                   SharedPanels<T>& panels) {
    with_dtype<T>(a.dtype, [&](auto s) {
        const auto* p = static_cast<const decltype(s)*>(a.p);
        const int64_t first = tile.first[0] + t0;
        over_pieces(panels.columns, Lanes<T>::W, first, steps, ahead < 0, panels.last,
                    [&](const Piece& piece, int t, int count) {
                        for (int i = 0; i < rows; ++i) {
                            const T* held = panels.load(p + row(i), piece, index + i);
                            std::memcpy(x + i * pitch + t, held + (first + t - piece.begin),
                                        count * sizeof(T));
                        }
                        if (panels.holds(piece.next_begin, index)) return;
                        piece.fetch_next(panels.columns, first + t, count, ahead < 0,
                                         [&](int64_t offset) {
                                             for (int i = 0; i < rows; ++i)
                                                 __builtin_prefetch(p + offset + row(i), 0, 3);
                                         });
                    });
    });
}

}  // namespace ssno::SSNO_ISA
