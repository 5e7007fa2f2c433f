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

// Sums over the channels of a run: rows (B or C: state and part; delta: factor) along time, kept as
// [group of blocks][segment without its chunk][row][sweep time].
template <class T>
struct RowSums {
    static constexpr int W = Lanes<T>::W;
    int64_t rows, parts, segments, length;
    Zeros<T> sums;

    RowSums(const Params& p, const Plan& plan, bool wanted, int64_t rows_, int64_t parts_)
        : rows(wanted ? rows_ : 0),
          parts(parts_),
          segments(p.batch * plan.runs),
          length(p.length),
          sums(rows * parts * segments * length) {}

    explicit operator bool() const { return rows > 0; }

    T* at(int64_t part, int64_t segment, int64_t row, int64_t t) const {
        return sums + ((part * segments + segment) * rows + row) * length + t;
    }

    // Add terms[step][lane] of one row, over the lanes of each run.
    void add(const Tile<T>& tile, const Plan& plan, int64_t part, int64_t row, int64_t t0, int steps,
             const T* terms) const {
        auto to = [&](int i) {
            return at(part, tile.b[i] * plan.runs + tile.run[i], row, tile.first[i] + t0);
        };
        int t = 0;
        if (tile.one_segment) {
            T* sum = to(0);
            for (; t + W <= steps; t += W) {
                Vec<T> block[W];
                for (int i = 0; i < W; ++i) block[i] = load<T>(terms + (t + i) * W);
                store<T>(sum + t, load<T>(sum + t) + sum_each<T>(block));
            }
            for (; t < steps; ++t) sum[t] += SSNO_ISA::sum<T>(load<T>(terms + t * W));
            return;
        }
        T* lane[W];
        for (int i = 0; i < tile.lanes; ++i) lane[i] = to(i);
        if (tile.even)
            for (; t + W <= steps; t += W) {
                Vec<T> block[W];
                for (int i = 0; i < W; ++i) block[i] = load<T>(terms + (t + i) * W);
                transpose<T>(block);
                for (int i = 0; i < tile.lanes; ++i)
                    store<T>(lane[i] + t, load<T>(lane[i] + t) + block[i]);
            }
        for (int i = 0; i < tile.lanes; ++i)
            for (int64_t s = t; s < tile.steps_of(i, t0, steps); ++s) lane[i][s] += terms[s * W + i];
    }

    // Write out[b][group][row / c_parts][t][row % c_parts]: add parts, and the runs of each group.
    void write(const Params& p, const Plan& plan, const Projection& out, int64_t c_parts) const {
        if (!*this) return;
        const int64_t together = plan.runs / out.groups;
        parallel(p, p.batch * out.groups * rows, [&](int64_t i) {
            const int64_t row = i % rows, g = i / rows % out.groups, b = i / rows / out.groups;
            T* first = at(0, b * plan.runs + g * together, row, 0);
            for (int64_t part = 0; part < parts; ++part)
                for (int64_t r = 0; r < together; ++r) {
                    const T* more = at(part, b * plan.runs + g * together + r, row, 0);
                    if (more != first)
                        for (int64_t t = 0; t < length; ++t) first[t] += more[t];
                }
            with_dtype<T>(p.dtype, [&](auto s) {
                using S = decltype(s);
                S* to = static_cast<S*>(const_cast<void*>(out.p)) + b * out.b + g * out.g +
                        row / c_parts * out.n + row % c_parts * out.c;
                for (int64_t t = 0; t < length; ++t) narrow(first[t], to[t * out.t]);
            });
        });
    }
};

// Sums over batch and time: one vector of channels for each row, of each thread.
template <class T>
struct ChannelSums {
    static constexpr int W = Lanes<T>::W;
    int64_t rows, slots, channels;
    Zeros<T> sums;

    ChannelSums(const Params& p, int64_t rows_, int64_t slots_)
        : rows(rows_), slots(slots_), channels(p.channels), sums(rows * slots * channels) {}

    // Add [row][lane] of a tile.
    void add(const Tile<T>& tile, int64_t slot, const T* values) const {
        for (int64_t row = 0; row < rows; ++row) {
            T* to = sums + (slot * rows + row) * channels;
            for (int i = 0; i < tile.lanes; ++i) to[tile.d[i]] += values[row * W + i];
        }
    }

    T total(int64_t row, int64_t d) const {
        T s = 0;
        for (int64_t slot = 0; slot < slots; ++slot) s += sums[(slot * rows + row) * channels + d];
        return s;
    }
};

}  // namespace ssno::SSNO_ISA
