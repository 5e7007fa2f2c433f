// SPDX-License-Identifier: MIT
// Filters across rows, with the nonlinearity between them: (A3) to (A5), or (A6) and (A7), along
// the axis that is swept row by row. For each vector of a row, the window of coarse samples and the
// sums that are still open stay in registers while the sweep goes through a group of periods;
// between groups the open sums wait in memory. So nothing of the upsampled signal is ever stored.
#pragma once

#include "alias_free_activation/link.h"

namespace ssno::SSNO_ISA::alias_free {

template <class T>
struct Columns {
    const T* const* x;      // rows of the input from the first period's window on
    const T* const* v_out;  // likewise, in the backward
    T* open;                // [window - per][length] sums of the output's link
    T* const* done;         // [periods * per] rows of finished sums
    int64_t length;         // of every row
    int periods;
    T* room;  // for windows in memory
};

// The part of a window that the period before has left, and what a period adds to it.
template <class T, class L>
SSNO_INLINE void begin_window(const L& link, Window<T, L>& x, const T* const* rows, int64_t i) {
    each(link.get_kept(), [&](auto w) SSNO_LAMBDA { x[w] = load<T>(rows[w] + i); });
}
template <class T, class L>
SSNO_INLINE void extend_window(const L& link, Window<T, L>& x, const T* const* rows, int64_t i,
                               int period) {
    each(link.get_per(), [&](auto k) SSNO_LAMBDA {
        const int w = link.window - link.per + k;
        x[w] = load<T>(rows[w + period * link.per] + i);
    });
}
template <class T, class L>
SSNO_INLINE void shift_window(const L& link, Window<T, L>& x) {
    each(link.get_kept(), [&](auto w) SSNO_LAMBDA { x[w] = x[w + link.per]; });
}

// Fine sample q from the window.
template <class T, class L, class Q>
SSNO_INLINE Vec<T> expanded(const L& link, Window<T, L>& x, Q q) {
    Vec<T> s{};
    link.each_tap(q, [&](auto w, auto k) SSNO_LAMBDA { s += link.h[k] * x[w]; });
    return s;
}
// Its share in the sums.
template <class T, class L, class Q>
SSNO_INLINE void reduce(const L& link, Window<T, L>& sums, Q q, Vec<T> t) {
    link.each_tap(q, [&](auto w, auto k) SSNO_LAMBDA { sums[w] += link.h[k] * t; });
}

template <class T, class L>
SSNO_INLINE void begin_sums(const L& link, Window<T, L>& sums, const Columns<T>& c, int64_t i) {
    each(link.get_kept(),
         [&](auto w) SSNO_LAMBDA { sums[w] = load<T>(c.open + w * c.length + i); });
    each(link.get_per(), [&](auto r) SSNO_LAMBDA { sums[link.window - link.per + r] = Vec<T>{}; });
}
template <class T, class L>
SSNO_INLINE void finish_period(const L& link, Window<T, L>& sums, const Columns<T>& c, int64_t i,
                               int period) {
    each(link.get_per(),
         [&](auto r) SSNO_LAMBDA { store<T>(c.done[period * link.per + r] + i, sums[r]); });
    shift_window(link, sums);
    each(link.get_per(), [&](auto r) SSNO_LAMBDA { sums[link.window - link.per + r] = Vec<T>{}; });
}
template <class T, class L>
SSNO_INLINE void end_sums(const L& link, Window<T, L>& sums, const Columns<T>& c, int64_t i) {
    each(link.get_kept(),
         [&](auto w) SSNO_LAMBDA { store<T>(c.open + w * c.length + i, sums[w]); });
}

template <class T, class Up, class Down, class Act>
void columns_forward(const Columns<T>& c, const Up& up, const Down& down, const Act& act) {
    constexpr int W = Lanes<T>::W;
    Window<T, Up> x(c.room);
    Window<T, Down> sums(c.room + up.window * W);
    for (int64_t i = 0; i < c.length; i += W) {
        begin_window<T>(up, x, c.x, i);
        begin_sums<T>(down, sums, c, i);
        for (int period = 0; period < c.periods; ++period) {
            extend_window<T>(up, x, c.x, i, period);
            each(up.get_period(), [&](auto q) SSNO_LAMBDA {
                reduce<T>(down, sums, q, act.value(expanded<T>(up, x, q)));
            });
            finish_period<T>(down, sums, c, i, period);
            shift_window<T>(up, x);
        }
        end_sums<T>(down, sums, c, i);
    }
}

template <class T, class Up, class Down, class Act>
void columns_backward(const Columns<T>& c, const Up& up, const Down& down, const Act& act) {
    constexpr int W = Lanes<T>::W;
    Window<T, Up> x(c.room), sums(c.room + up.window * W);
    Window<T, Down> v(c.room + 2 * up.window * W);
    for (int64_t i = 0; i < c.length; i += W) {
        begin_window<T>(up, x, c.x, i);
        begin_window<T>(down, v, c.v_out, i);
        begin_sums<T>(up, sums, c, i);
        for (int period = 0; period < c.periods; ++period) {
            extend_window<T>(up, x, c.x, i, period);
            extend_window<T>(down, v, c.v_out, i, period);
            each(up.get_period(), [&](auto q) SSNO_LAMBDA {
                const Vec<T> v_t = expanded<T>(down, v, q);
                reduce<T>(up, sums, q, v_t * act.slope(expanded<T>(up, x, q)));
            });
            finish_period<T>(up, sums, c, i, period);
            shift_window<T>(up, x);
            shift_window<T>(down, v);
        }
        end_sums<T>(up, sums, c, i);
    }
}

}  // namespace ssno::SSNO_ISA::alias_free
