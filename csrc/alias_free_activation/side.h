// SPDX-License-Identifier: MIT
// One input of a task, x or v_out: its rows, expanded along the lane axis, for the sweep.
#pragma once

#include "alias_free_activation/call.h"

namespace ssno::SSNO_ISA::alias_free {

// A tile of the output and the periods that reach it, by role.
struct Place {
    int64_t begin[AXES], end[AXES];     // samples of the output
    int64_t period[AXES], count[AXES];  // the first period, and how many
    int64_t b, c;                       // of the unit's first lane
    int lanes;                          // channels of the unit; 1 where lanes are positions
};

template <class T>
class Side {
  public:
    static constexpr int W = Lanes<T>::W;
    using Filter = typename RowFilters<T>::Filter;

    Side(const Call<T>& call, const Field& field, const Link<T>* links, const int64_t* sizes,
         const Vector& bias, Filter expand, int64_t length)
        : call_(call),
          field_(field),
          links_(links),
          sizes_(sizes),
          bias_(bias),
          expand_(expand),
          length_(length),
          apart_(round_up(call.positions(call.periods(LANE, call.tile[LANE])) +
                              (links[LANE].window / links[LANE].per + 1) * call.shift,
                          W)),
          slots_(links[ROW].window - links[ROW].per + links[ROW].per * call.group),
          coarse_(apart_ * links[LANE].per),
          raw_(call.channels ? 0 : apart_ * links[LANE].per),
          ring_(slots_ * length),
          none_(length),
          window_(links[LANE].window * W),
          rows_(slots_) {}

    void begin_task(const Place& at) {
        at_ = &at;
        for (int role = 0; role < AXES; ++role)
            first_[role] = links_[role].per * at.period[role] + links_[role].first;
        coarse_.clear();  // zero padding; what a row has is overwritten by every row
        plus_ = Vec<T>{};
        if (bias_.p)
            for (int i = 0; i < at.lanes; ++i)
                plus_[i] = static_cast<const T*>(bias_.p)[(at.c + i) * bias_.stride];
    }

    // Take fine slice j; false where no sample reaches it.
    bool begin_slice(int64_t j) {
        const Link<T>& link = links_[SLICE];
        slice_begin_ = most(0, floor_div(j + link.c - link.taps, link.rate) + 1);
        slice_end_ = least(sizes_[SLICE], floor_div(j + link.c, link.rate) + 1);
        slice_tap_ = j + link.c;
        loaded_ = 0;
        return slice_begin_ < slice_end_;
    }

    // The rows of the windows of `count` periods from the tile's period g on
    const T* const* rows(int64_t g, int64_t count) {
        const Link<T>& link = links_[ROW];
        const int64_t from = link.per * g, to = link.per * (g + count - 1) + link.window;
        for (; loaded_ < to; ++loaded_)
            if (is_inside(loaded_))
                load_row(first_[ROW] + loaded_, ring_ + loaded_ % slots_ * length_);
        for (int64_t u = from; u < to; ++u)
            rows_[u - from] = is_inside(u) ? ring_ + u % slots_ * length_ : none_;
        return rows_;
    }

  private:
    bool is_inside(int64_t u) const {
        return first_[ROW] + u >= 0 && first_[ROW] + u < sizes_[ROW];
    }

    void load_row(int64_t row, T* to) {
        const int per = links_[LANE].per;
        const int64_t begin = most(0, -first_[LANE]);
        const int64_t span = per * (at_->count[LANE] - 1) + links_[LANE].window;
        const int64_t count = least(span, sizes_[LANE] - first_[LANE]) - begin;
        if (count > 0)
            with_dtype<T>(call_.p.dtype, [&](auto s) {
                using S = decltype(s);
                T total = 0;
                for (int64_t z = slice_begin_; z < slice_end_; ++z) total += slice_weight(z);
                for (int64_t z = slice_begin_; z < slice_end_; ++z) {
                    const auto stride = [&](int role) { return field_.g[call_.axis[role]]; };
                    const S* p = static_cast<const S*>(field_.p) + at_->b * field_.b +
                                 at_->c * field_.c + z * stride(SLICE) + row * stride(ROW) +
                                 (first_[LANE] + begin) * stride(LANE);
                    const bool add = z > slice_begin_;
                    if (call_.channels)
                        take_blocks(p, stride(LANE), begin, count, slice_weight(z), total, add);
                    else
                        take_positions<T, S>(p, stride(LANE), count, slice_weight(z),
                                             plus_[0] * total, add,
                                             per == 1 ? coarse_ + begin : raw_);
                }
                if (!call_.channels && per > 1)
                    split_phases<T>(raw_, begin, count, per, coarse_, apart_);
            });
        const int64_t vectors = call_.positions(at_->count[LANE]) / W;
        const int64_t phase = length_ / links_[LANE].period;
        expand_(links_[LANE], coarse_, apart_, to, phase, vectors, window_);
    }

    T slice_weight(int64_t z) const { return links_[SLICE].h[slice_tap_ - z * links_[SLICE].rate]; }

    template <class S>
    void take_blocks(const S* p, int64_t stride, int64_t begin, int64_t count, T weight, T total,
                     bool add) {
        const int per = links_[LANE].per;
        for (int64_t i = 0; i < count; ++i) {
            T* to = coarse_ + (begin + i) % per * apart_ + (begin + i) / per * W;
            const Vec<T> before = add ? load<T>(to) : plus_ * total;
            const Vec<T> v = take_channels<T, S>(p + i * stride, field_.c, at_->lanes);
            store<T>(to, v * weight + before);
        }
    }

    const Call<T>& call_;
    const Field field_;
    const Link<T>* const links_;
    const int64_t* const sizes_;
    const Vector bias_;
    const Filter expand_;
    const int64_t length_, apart_, slots_;  // of a fine row, between coarse phases, rows kept
    Room<T> coarse_, raw_, ring_, none_, window_;
    Room<const T*> rows_;
    const Place* at_ = nullptr;
    int64_t first_[AXES] = {};  // the coarse sample at which the tile's first window begins
    int64_t slice_begin_ = 0, slice_end_ = 0, slice_tap_ = 0, loaded_ = 0;
    Vec<T> plus_{};
};

}  // namespace ssno::SSNO_ISA::alias_free
