// SPDX-License-Identifier: MIT
// Sums of cotangents over what several threads compute. Each thread adds to memory of its own; the
// parts are then added in a fixed order, so results are the same from run to run.
#pragma once

#include "selective_scan/carry.h"

namespace ssno::SSNO_ISA {

// Memory that starts as zeros.
template <class T>
class Zeros : public Buffer<T> {
  public:
    explicit Zeros(int64_t size) : Buffer<T>(size) {
        if (size > 0) std::memset(static_cast<T*>(*this), 0, size * sizeof(T));
    }
};

// Write x[step] along a path, by panels where that goes down columns.
template <class T, class S>
void write_path(const T* x, S* to, const Path& path, int64_t length) {
    constexpr int W = Lanes<T>::W;
    const Columns columns(path, length);
    if (columns.span == 0) {
        for (int64_t t = 0; t < length;) {
            S* const at = to + path.at(t);
            const int64_t count = std::min(path.run(t), length - t);
            if (path.t == 1)
                for (int64_t i = 0; i < count; ++i) narrow(x[t + i], at[i]);
            else if (path.t == -1)
                for (int64_t i = 0; i < count; ++i) narrow(x[t + i], at[-i]);
            else
                for (int64_t i = 0; i < count; ++i) narrow(x[t + i], at[i * path.t]);
            t += count;
        }
        return;
    }
    const int64_t span = columns.span;
    for (Piece piece; piece.end < length;) {
        piece = Piece::around(columns, piece.end, W, false);
        const int count = static_cast<int>((piece.end - piece.begin) / span);
        S* const at = to + piece.at;
        for (int64_t r = 0; r < span; r += W) {
            const int rows = static_cast<int>(std::min<int64_t>(W, span - r));
            const T* const from = x + piece.begin + r;
            Rows<T, S> steps;
            for (int64_t i = 0; i < rows; ++i) steps.at[i] = at + path.at(r + i);
            steps.stride = columns.apart;
            if (rows == W) {
                scatter_rows<T, S>(steps, rows, count, from, span);
                continue;
            }
            for (int64_t column = 0; column < count; ++column)
                for (int64_t i = 0; i < rows; ++i)
                    narrow(from[column * span + i], steps.at[i][column * columns.apart]);
        }
    }
}

// Sums over the channels of a run: rows (B or C: state and part; delta: factor) along time. Each
// group of a segment's blocks has a part of its own, [part][batch][run][row][sweep time]; where
// that is one part for each row of the output, and of its type and order, the output itself is
// used.
template <class T>
struct RowSums {
    static constexpr int W = Lanes<T>::W;
    const Projection out;
    const int64_t rows, per_state, parts, length;
    const bool in_place;
    Buffer<T> sums;
    T* base;
    int64_t part_stride, batch_stride, run_stride, state_stride, c_stride;

    RowSums(const Params& p, const Plan& plan, const Projection& output, bool wanted,
            int64_t states, int64_t per, int64_t parts_)
        : out(output),
          rows(wanted ? states * per : 0),
          per_state(per),
          parts(parts_),
          length(p.length),
          in_place(parts == 1 && output.path.t == 1 && output.path.inner == Path::ENDLESS &&
                   plan.runs == output.groups &&
                   p.dtype == (sizeof(T) == 8 ? Dtype::f64 : Dtype::f32)),
          sums(in_place ? 0 : rows * parts * p.batch * plan.runs * length) {
        if (in_place) {
            base = static_cast<T*>(const_cast<void*>(out.p));
            part_stride = 0, batch_stride = out.b, run_stride = out.g;
            state_stride = out.n, c_stride = out.c;
        } else {
            base = sums;
            run_stride = rows * length, batch_stride = plan.runs * run_stride;
            part_stride = p.batch * batch_stride;
            state_stride = per * length, c_stride = length;
        }
    }

    explicit operator bool() const { return rows > 0; }

    T* at(int64_t part, int64_t b, int64_t run, int64_t row) const {
        return base + part * part_stride + b * batch_stride + run * run_stride +
               row / per_state * state_stride + row % per_state * c_stride;
    }

    // Take terms[step][lane] of one row, summed over the lanes of each run: the first channels of a
    // part set the sum, others add to it.
    void add(const Tile<T>& tile, const Plan& plan, int64_t part, bool first, int64_t row,
             int64_t t0, int steps, const T* terms) const {
        auto to = [&](int i) { return at(part, tile.b[i], tile.run[i], row) + tile.first[i] + t0; };
        int t = 0;
        if (tile.one_segment) {
            T* sum = to(0);
            for (int s = 0; s < STEPS && t0 >= STEPS; s += 64 / sizeof(T))
                __builtin_prefetch(sum + s - STEPS, 1, 2);  // the sweep goes backwards
            for (; t + W <= steps; t += W) {
                Vec<T> block[W];
                for (int i = 0; i < W; ++i) block[i] = load<T>(terms + (t + i) * W);
                const Vec<T> more = sum_each<T>(block);
                store<T>(sum + t, first ? more : load<T>(sum + t) + more);
            }
            for (; t < steps; ++t)
                sum[t] = SSNO_ISA::sum<T>(load<T>(terms + t * W)) + (first ? T(0) : sum[t]);
            return;
        }
        T* lane[W];
        for (int i = 0; i < tile.lanes; ++i) lane[i] = to(i);
        auto sets = [&](int i) { return tile.d[i] % plan.per_run == 0; };
        if (tile.even)
            for (; t + W <= steps; t += W) {
                Vec<T> block[W];
                for (int i = 0; i < W; ++i) block[i] = load<T>(terms + (t + i) * W);
                transpose<T>(block);
                for (int i = 0; i < tile.lanes; ++i)
                    store<T>(lane[i] + t, sets(i) ? block[i] : load<T>(lane[i] + t) + block[i]);
            }
        for (int i = 0; i < tile.lanes; ++i)
            for (int64_t s = t; s < tile.steps_of(i, t0, steps); ++s)
                lane[i][s] = terms[s * W + i] + (sets(i) ? T(0) : lane[i][s]);
    }

    // Write the output: add parts, and the runs of each group.
    void write(const Params& p, const Plan& plan) const {
        if (!*this || in_place) return;
        const int64_t together = plan.runs / out.groups;
        parallel(p, p.batch * out.groups * rows, [&](int64_t i) {
            const int64_t row = i % rows, g = i / rows % out.groups, b = i / rows / out.groups;
            T* first = at(0, b, g * together, row);
            for (int64_t part = 0; part < parts; ++part)
                for (int64_t r = 0; r < together; ++r) {
                    const T* more = at(part, b, g * together + r, row);
                    if (more != first)
                        for (int64_t t = 0; t < length; ++t) first[t] += more[t];
                }
            with_dtype<T>(p.dtype, [&](auto s) {
                using S = decltype(s);
                S* to = static_cast<S*>(const_cast<void*>(out.p)) + b * out.b + g * out.g +
                        row / per_state * out.n + row % per_state * out.c;
                write_path<T, S>(first, to, out.path, length);
            });
        });
    }
};

// Sums over batch and time: one vector of channels for each row, of each thread.
template <class T>
struct ChannelSums {
    static constexpr int W = Lanes<T>::W;
    int64_t rows, slots, channels;
    Zeros<double> sums;

    ChannelSums(const Params& p, int64_t rows_, int64_t slots_)
        : rows(rows_), slots(slots_), channels(p.channels), sums(rows * slots * channels) {}

    // Add [row][lane] of a tile.
    void add(const Tile<T>& tile, int64_t slot, const double* values) const {
        for (int64_t row = 0; row < rows; ++row) {
            double* to = sums + (slot * rows + row) * channels;
            for (int i = 0; i < tile.lanes; ++i) to[tile.d[i]] += values[row * W + i];
        }
    }

    T total(int64_t row, int64_t d) const {
        double s = 0;
        for (int64_t slot = 0; slot < slots; ++slot) s += sums[(slot * rows + row) * channels + d];
        return static_cast<T>(s);
    }
};

}  // namespace ssno::SSNO_ISA
