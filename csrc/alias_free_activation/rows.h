// SPDX-License-Identifier: MIT
// Filters along the axis on which a row lies. A row is one array for each phase of the period:
// coarse[phase][position], fine[phase][position]. A step of one period in space is `Shift`
// elements: 1 where lanes are positions, a whole vector where lanes are channels.
#pragma once

#include "alias_free_activation/link.h"

namespace ssno::SSNO_ISA::alias_free {

// fine[q] of `vectors` vectors from coarse phases `from` elements apart; coarse starts at the
// window of the first position.
template <class T, class L, int Shift>
void expand_row(const L& link, const T* coarse, int64_t from, T* fine, int64_t to, int64_t vectors,
                T* room) {
    constexpr int W = Lanes<T>::W;
    Window<T, L> x(room);
    for (int64_t v = 0; v < vectors; ++v, coarse += W, fine += W) {
        each(link.get_window(), [&](auto w) SSNO_LAMBDA {
            x[w] = load<T>(coarse + w % link.per * from + w / link.per * Shift);
        });
        each(link.get_period(), [&](auto q) SSNO_LAMBDA {
            Vec<T> s{};
            link.each_tap(q, [&](auto w, auto k) SSNO_LAMBDA { s += link.h[k] * x[w]; });
            store<T>(fine + q * to, s);
        });
    }
}

// coarse[r] of `vectors` vectors; fine starts at the period that holds the first position's tap 0.
template <class T, class L, int Shift>
void reduce_row(const L& link, const T* fine, int64_t from, T* coarse, int64_t to, int64_t vectors,
                T*) {
    constexpr int W = Lanes<T>::W;
    for (int64_t v = 0; v < vectors; ++v, coarse += W, fine += W)
        each(link.get_per(), [&](auto r) SSNO_LAMBDA {
            Vec<T> sum{};
            each(link.get_taps(), [&](auto k) SSNO_LAMBDA {
                const int j = r * link.rate + k + link.kappa;
                sum += link.h[k] * load<T>(fine + j % link.period * from + j / link.period * Shift);
            });
            store<T>(coarse + r * to, sum);
        });
}

}  // namespace ssno::SSNO_ISA::alias_free
