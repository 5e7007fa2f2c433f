// SPDX-License-Identifier: MIT
// One thread's work: the tasks it is given, each a tile of the output swept slice by slice and row
// by row.
#pragma once

#include "alias_free_activation/side.h"

namespace ssno::SSNO_ISA::alias_free {

template <class T>
class Sweep {
  public:
    static constexpr int W = Lanes<T>::W;

    explicit Sweep(const Call<T>& call)
        : call_(call),
          out_(call.backward ? call.p.v_x : call.p.out),
          lane_(call.out_link(LANE)),
          row_(call.out_link(ROW)),
          slice_(call.out_link(SLICE)),
          filters_(call.up[LANE], call.down[LANE], call.channels),
          columns_(call.up[ROW], call.down[ROW], call.p.act, call.backward),
          phase_(fine_phase()),
          length_(phase_ * lane_.period),
          apart_(call.positions(ceil_div(call.tile[LANE], lane_.per))),
          slots_(is_sliced() ? ceil_div(slice_.taps, slice_.rate) : 0),
          x_(call, call.p.x, call.up, call.n, call.p.bias, filters_.expand_up, length_),
          v_out_(call, call.p.v_out, call.down, call.m, Vector{}, filters_.expand_down,
                 call.backward ? length_ : 0),
          open_((row_.window - row_.per) * length_),
          done_(row_.per * call.group * length_),
          done_rows_(row_.per * call.group),
          window_((2 * call.up[ROW].window + call.down[ROW].window) * W),
          coarse_(apart_ * lane_.per),
          joined_(apart_ * lane_.per),
          slab_(slots_ * call.tile[ROW] * apart_ * lane_.per) {
        for (int64_t i = 0; i < row_.per * call.group; ++i) done_rows_[i] = done_ + i * length_;
    }

    // The sum of v_x over the task of each lane, or, where lanes are positions, in lane 0
    Vec<T> run(int64_t task) {
        place(task);
        total_ = Vec<T>{};
        x_.begin_task(at_);
        if (call_.backward) v_out_.begin_task(at_);
        const int64_t begin = at_.begin[SLICE], end = at_.end[SLICE];
        const int64_t last = (end - 1) * slice_.rate - slice_.c + slice_.taps;
        for (int64_t j = begin * slice_.rate - slice_.c; j < last; ++j) {
            const int64_t tap = j + slice_.c;
            if (is_sliced() && tap % slice_.rate == 0 && tap / slice_.rate < end)
                std::memset(slab(tap / slice_.rate, 0), 0,
                            call_.tile[ROW] * row_size() * sizeof(T));
            first_open_ = most(begin, floor_div(tap - slice_.taps, slice_.rate) + 1);
            last_open_ = least(end, floor_div(tap, slice_.rate) + 1);
            tap_ = tap;
            const bool reached = x_.begin_slice(j);
            const bool wanted = !call_.backward || v_out_.begin_slice(j);
            if (first_open_ < last_open_ && reached && wanted) sweep_slice();
            const int64_t closing = tap - slice_.taps + 1;
            if (is_sliced() && closing >= begin * slice_.rate && closing % slice_.rate == 0)
                for (int64_t row = at_.begin[ROW]; row < at_.end[ROW]; ++row)
                    give(closing / slice_.rate, row,
                         slab(closing / slice_.rate, row - at_.begin[ROW]));
        }
        if (call_.channels) return total_;
        Vec<T> all{};
        all[0] = sum<T>(total_);
        return all;
    }

  private:
    bool is_sliced() const { return call_.p.filtered[call_.axis[SLICE]]; }
    int64_t row_size() const { return apart_ * lane_.per; }
    T* slab(int64_t slice, int64_t row) const {
        return slab_ + (slice % slots_ * call_.tile[ROW] + row) * row_size();
    }

    // Elements of a phase of a fine row: what is computed, and what the reduction's last vector
    // reads
    int64_t fine_phase() const {
        const int64_t computed = call_.positions(call_.periods(LANE, call_.tile[LANE]));
        const int64_t reach =
            ((lane_.per - 1) * lane_.rate + lane_.taps - 1 + lane_.kappa) / lane_.period;
        const int64_t read = call_.positions(ceil_div(call_.tile[LANE], lane_.per));
        return round_up(most(computed, read + reach * call_.shift), W);
    }

    void place(int64_t task) {
        for (int role = AXES - 1; role >= 0; --role) {
            const Link<T>& link = call_.out_link(role);
            const int64_t size = call_.out_size(role), t = task % call_.tiles[role];
            task /= call_.tiles[role];
            at_.begin[role] = t * call_.tile[role];
            at_.end[role] = least(size, at_.begin[role] + call_.tile[role]);
            const int64_t first = at_.begin[role] * link.rate - link.c;
            const int64_t last = (at_.end[role] - 1) * link.rate - link.c + link.taps - 1;
            at_.period[role] = floor_div(first, link.period);
            at_.count[role] = floor_div(last, link.period) - at_.period[role] + 1;
        }
        at_.b = task / call_.blocks;
        at_.c = task % call_.blocks * (call_.channels ? W : 1);
        at_.lanes = call_.channels ? static_cast<int>(least(W, call_.p.channels - at_.c)) : 1;
    }

    void sweep_slice() {
        open_.clear();
        for (int64_t g = 0; g < at_.count[ROW]; g += call_.group) {
            const int64_t count = least(call_.group, at_.count[ROW] - g);
            Columns<T> c;
            c.x = x_.rows(g, count);
            c.v_out = call_.backward ? v_out_.rows(g, count) : nullptr;
            c.open = open_;
            c.done = done_rows_;
            c.length = length_;
            c.periods = static_cast<int>(count);
            c.room = window_;
            columns_.run(c, call_.up[ROW], call_.down[ROW], static_cast<T>(call_.p.negative_slope));
            for (int64_t i = 0; i < count * row_.per; ++i) {
                const int64_t row = row_.per * (at_.period[ROW] + g) + row_.first + i;
                if (row >= at_.begin[ROW] && row < at_.end[ROW]) finish(row, done_rows_[i]);
            }
        }
    }

    // Reduce a fine row along the lane axis; give it, or add it to the slices that are open.
    void finish(int64_t row, const T* fine) {
        const int64_t samples = at_.end[LANE] - at_.begin[LANE];
        const int64_t vectors = call_.positions(ceil_div(samples, lane_.per)) / W;
        const auto reduce = call_.backward ? filters_.reduce_up : filters_.reduce_down;
        reduce(lane_, fine, phase_, coarse_, apart_, vectors, nullptr);
        if (!is_sliced()) return give(at_.begin[SLICE], row, coarse_);
        for (int64_t n = first_open_; n < last_open_; ++n) {
            const T weight = slice_.h[tap_ - n * slice_.rate];
            T* to = slab(n, row - at_.begin[ROW]);
            for (int64_t i = 0; i < row_size(); i += W)
                store<T>(to + i, load<T>(coarse_ + i) * weight + load<T>(to + i));
        }
    }

    void give(int64_t slice, int64_t row, const T* from) {
        const int64_t count = at_.end[LANE] - at_.begin[LANE];
        const int per = lane_.per;
        if (!call_.channels && per > 1) {
            join_phases<T>(from, apart_, per, count, joined_);
            from = joined_;
        }
        if (call_.p.v_bias) add_to_total(from, count);
        if (!out_.p) return;
        with_dtype<T>(call_.p.dtype, [&](auto s) {
            using S = decltype(s);
            const auto stride = [&](int role) { return out_.g[call_.axis[role]]; };
            S* p = static_cast<S*>(out_.p) + at_.b * out_.b + at_.c * out_.c +
                   slice * stride(SLICE) + row * stride(ROW) + at_.begin[LANE] * stride(LANE);
            if (!call_.channels) return give_positions<T, S>(from, count, p, stride(LANE));
            for (int64_t i = 0; i < count; ++i)
                give_channels<T, S>(load<T>(from + i % per * apart_ + i / per * W),
                                    p + i * stride(LANE), out_.c, at_.lanes);
        });
    }

    void add_to_total(const T* from, int64_t count) {
        if (call_.channels) {
            for (int64_t i = 0; i < count; ++i)
                total_ += load<T>(from + i % lane_.per * apart_ + i / lane_.per * W);
            return;
        }
        int64_t i = 0;
        for (; i + W <= count; i += W) total_ += load<T>(from + i);
        for (int lane = 0; i < count; ++i, ++lane) total_[lane] += from[i];
    }

    const Call<T>& call_;
    const Field out_;
    const Link<T>&lane_, &row_, &slice_;  // of the output
    const RowFilters<T> filters_;
    const ColumnFilter<T> columns_;
    const int64_t phase_, length_;  // of a fine row, in elements
    const int64_t apart_;           // between the phases of a row of the output
    const int64_t slots_;           // slices that are open at once
    Side<T> x_, v_out_;
    Room<T> open_, done_;
    Room<T*> done_rows_;
    Room<T> window_, coarse_, joined_, slab_;
    Place at_{};
    int64_t tap_ = 0, first_open_ = 0, last_open_ = 0;
    Vec<T> total_{};
};

// Split tasks into one run for each thread; the sums of v_x are added up in the order of tasks.
template <class T>
void run_as(const Params& p, bool backward) {
    constexpr int W = Lanes<T>::W;
    const Call<T> call(p, backward);
    const int64_t lanes = call.channels ? W : 1;
    const bool sums = backward && p.v_bias;
    Room<T> totals(sums ? call.tasks * lanes : 0);
    const int64_t slots = least(p.threads, call.tasks);
    const auto body = [&](int64_t slot) {
        Sweep<T> sweep(call);
        const int64_t end = (slot + 1) * call.tasks / slots;
        for (int64_t task = slot * call.tasks / slots; task < end; ++task) {
            const Vec<T> total = sweep.run(task);
            if (sums)
                for (int64_t i = 0; i < lanes; ++i) totals[task * lanes + i] = total[i];
        }
    };
    if (slots > 0)
        p.parallel(slots, &body, [](const void* context, int64_t slot) {
            (*static_cast<const decltype(body)*>(context))(slot);
        });
    if (!sums) return;
    const int64_t per_unit = call.tiles[SLICE] * call.tiles[ROW] * call.tiles[LANE];
    for (int64_t c = 0; c < p.channels; ++c) {
        double total = 0;
        for (int64_t b = 0; b < p.batch; ++b)
            for (int64_t i = 0; i < per_unit; ++i)
                total += totals[((b * call.blocks + c / lanes) * per_unit + i) * lanes + c % lanes];
        static_cast<T*>(p.v_bias)[c] = static_cast<T>(total);
    }
}

}  // namespace ssno::SSNO_ISA::alias_free
