// SPDX-License-Identifier: MIT
// Tiles between tensors and shared memory, 16 bytes at a time where rows are aligned.
#pragma once

#include "alias_free_activation/block_cuda.h"

namespace ssno::alias_free_activation {

using cuda::Pack;

template <class S>
struct One {
    static constexpr int SIZE = 1;
    S v[1];
};
template <class S>
SSNO_DEVICE void fetch(const S* from, One<S>& x) {
    x.v[0] = *from;
}
template <class S>
SSNO_DEVICE void fetch(const S* from, Pack<S>& x) {
    x = cuda::load16(from);
}
template <class S>
SSNO_DEVICE void put(S* to, const One<S>& x) {
    *to = x.v[0];
}
template <class S>
SSNO_DEVICE void put(S* to, const Pack<S>& x) {
    cuda::store16(to, x);
}

// What a thread moves of a tile: some elements side by side of every so many of its rows.
template <class Elements, class S>
class Share {
    static constexpr int WIDTH = Elements::SIZE;

  public:
    // Where a row's elements are, in the tensor and in the buffer, and whether they are there.
    struct Row {
        S* p;
        int at, last;  // `last`: along the last dimension
        bool in_tile, there;
    };

    SSNO_DEVICE Share(const Transfer& t, const Geometry& here, Geometry::What what)
        : t_(t),
          before_(here.before(t, what)),
          begin_(static_cast<S*>(t.p) + here.place(what)),
          first_(here.there(what, 0)),
          second_(here.there(what, 1)),
          third_(here.there(what, 2)),
          last_(here.there(what, 3)) {}

    // f(r) for every BATCH-th of this thread's rows r, in each of its columns. Rows of one element
    // are counted along the second dimension only: to divide would cost more than it saves.
    template <int BATCH, class F>
    SSNO_DEVICE void visit(const F& f) {
        const int row = divide(thread(), t_.by_lanes), lane = thread() - row * t_.lanes;
        if (row >= t_.rows) return;
        count_ = WIDTH == 1 ? t_.n[1] : t_.n[1] * t_.n[3];
        for (int column = lane; column < t_.columns; column += t_.lanes)
            for (int i2 = 0; i2 < t_.n[2]; ++i2)
                for (outer_ = 0; outer_ < (WIDTH == 1 ? t_.n[3] : 1); ++outer_) {
                    column_ = column * WIDTH - before_;
                    there_ = first_.has(column_) && third_.has(i2);
                    if (WIDTH == 1) there_ = there_ && last_.has(outer_);
                    at_ = cuda::computed(column_ * t_.at[0] + i2 * t_.at[2] + outer_ * t_.at[3]);
                    const int64_t along = WIDTH == 1 ? column_ * t_.stride[0] : column_;
                    p_ = cuda::computed(begin_ + along + i2 * t_.stride[2] + outer_ * t_.stride[3]);
                    for (int r = row; r < count_; r += BATCH * t_.rows) f(r);
                }
    }
    SSNO_DEVICE Row row(int r) const {
        const bool in_tile = r < count_;
        if constexpr (WIDTH == 1)
            return {p_ + r * t_.stride[1], at_ + r * t_.at[1], outer_, in_tile,
                    in_tile && there_ && second_.has(r)};
        const int i3 = divide(r, t_.by_second), i1 = r - i3 * t_.n[1];
        // of 32 bits, as the tile's extent is
        const int offset =
            i1 * static_cast<int>(t_.stride[1]) + i3 * static_cast<int>(t_.stride[3]);
        return {p_ + offset, at_ + i1 * t_.at[1] + i3 * t_.at[3], i3, in_tile,
                in_tile && there_ && second_.has(i1) && last_.has(i3)};
    }
    // Of the column in the buffer; what lies before that is not used.
    SSNO_DEVICE int column() const { return column_; }

  private:
    const Transfer& t_;
    const int before_;
    S* const begin_;
    const Presence first_, second_, third_, last_;
    int count_ = 0, outer_ = 0, column_ = 0, at_ = 0;
    bool there_ = false;
    S* p_ = nullptr;
};

template <class Elements, bool CHANNELS_FIRST, class S, class T>
SSNO_DEVICE void load_share(const Transfer& t, const Geometry& here, Geometry::What what,
                            Shared<T> bias, Shared<T> to) {
    constexpr int BATCH = 2;  // loads under way
    Share<Elements, S> share(t, here, what);
    share.template visit<BATCH>([&](int r) {
        typename Share<Elements, S>::Row rows[BATCH];
        Elements x[BATCH] = {};
#pragma unroll
        for (int j = 0; j < BATCH; ++j) {
            rows[j] = share.row(r + j * t.rows);
            if (rows[j].there) fetch<S>(rows[j].p, x[j]);
        }
#pragma unroll
        for (int j = 0; j < BATCH; ++j) {
            const bool biased = what == Geometry::X && rows[j].there;
            const int channel = CHANNELS_FIRST ? share.column() : rows[j].last;
            T wide[Elements::SIZE], b = biased ? bias.load(channel) : T(0);
#pragma unroll
            for (int i = 0; i < Elements::SIZE; ++i) {
                if (CHANNELS_FIRST && i > 0 && biased) b = bias.load(channel + i);
                wide[i] = cuda::widen(x[j].v[i]);
                if (what == Geometry::X) wide[i] += b;
            }
            if (!rows[j].in_tile) continue;
#pragma unroll
            for (int i = 0; i < Elements::SIZE; ++i) to.store(rows[j].at + i * t.at[0], wide[i]);
        }
    });
}

// A tile of x with its bias (A1), or of v_out; 0 where the tensor has no sample.
template <class S, class T>
SSNO_DEVICE void load_tile(const Plan& plan, const Geometry& here, Geometry::What what,
                           Shared<T> bias, Shared<T> to) {
    const Transfer& t = plan.transfers[what];
    if (t.dim[0] == Transfer::CHANNELS) {
        if (t.width > 1)
            load_share<Pack<S>, true, S>(t, here, what, bias, to);
        else
            load_share<One<S>, true, S>(t, here, what, bias, to);
    } else if (t.width > 1) {
        load_share<Pack<S>, false, S>(t, here, what, bias, to);
    } else {
        load_share<One<S>, false, S>(t, here, what, bias, to);
    }
}

template <class Elements, class S, class T>
SSNO_DEVICE void store_share(const Transfer& t, const Geometry& here, Shared<T> from) {
    Share<Elements, S> share(t, here, Geometry::RESULT);
    share.template visit<1>([&](int r) {
        const auto row = share.row(r);
        if (!row.there) return;
        Elements x;
#pragma unroll
        for (int i = 0; i < Elements::SIZE; ++i)
            cuda::narrow(from.load(row.at + i * t.at[0]), x.v[i]);
        put<S>(row.p, x);
    });
}

template <class S, class T>
SSNO_DEVICE void store_tile(const Plan& plan, const Geometry& here, Shared<T> from) {
    const Transfer& t = plan.transfers[Geometry::RESULT];
    if (t.width > 1)
        store_share<Pack<S>, S>(t, here, from);
    else
        store_share<One<S>, S>(t, here, from);
}

}  // namespace ssno::alias_free_activation
