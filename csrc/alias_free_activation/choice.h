// SPDX-License-Identifier: MIT
// Which code runs the links of an axis: for the resamplings of the field (same size, halving and
// doubling with six taps a factor and centred padding) and for axes that pass unfiltered there is
// code with all numbers known to the compiler, for everything else code that takes them as they
// come.
#pragma once

#include "alias_free_activation/columns.h"
#include "alias_free_activation/nonlinearity.h"
#include "alias_free_activation/params.h"
#include "alias_free_activation/rows.h"

namespace ssno::SSNO_ISA::alias_free {

using namespace ssno::alias_free_activation;

template <class T, class U, class D>
struct Pair {
    using Up = U;
    using Down = D;
    static bool fits(const Link<T>& up, const Link<T>& down) {
        return U::fits(up) && D::fits(down);
    }
};
template <class T>
using Same = Pair<T, FixedLink<T, 12, 2, 2, 0>, FixedLink<T, 12, 2, 2, 0>>;
template <class T>
using Halving = Pair<T, FixedLink<T, 12, 2, 4, 3>, FixedLink<T, 24, 4, 4, 0>>;
template <class T>
using Doubling = Pair<T, FixedLink<T, 24, 4, 4, 1>, FixedLink<T, 12, 2, 4, 0>>;
template <class T>
using Unfiltered = Pair<T, FixedLink<T, 1, 1, 1, 0>, FixedLink<T, 1, 1, 1, 0>>;
template <class T>
using Any = Pair<T, Link<T>, Link<T>>;

// f(Pair) with the first that fits
template <class T, class F>
SSNO_INLINE void with_pair(const Link<T>& up, const Link<T>& down, const F& f) {
    if (Same<T>::fits(up, down)) return f(Same<T>{});
    if (Halving<T>::fits(up, down)) return f(Halving<T>{});
    if (Doubling<T>::fits(up, down)) return f(Doubling<T>{});
    if (Unfiltered<T>::fits(up, down)) return f(Unfiltered<T>{});
    f(Any<T>{});
}

template <class T>
struct RowFilters {
    using Filter = void (*)(const Link<T>&, const T*, int64_t, T*, int64_t, int64_t, T*);
    Filter expand_up, expand_down, reduce_up, reduce_down;

    template <class L, int Shift>
    static void expand(const Link<T>& link, const T* from, int64_t apart, T* to, int64_t to_apart,
                       int64_t vectors, T* room) {
        expand_row<T, L, Shift>(L(link), from, apart, to, to_apart, vectors, room);
    }
    template <class L, int Shift>
    static void reduce(const Link<T>& link, const T* from, int64_t apart, T* to, int64_t to_apart,
                       int64_t vectors, T* room) {
        reduce_row<T, L, Shift>(L(link), from, apart, to, to_apart, vectors, room);
    }
    template <class P, int Shift>
    void take() {
        expand_up = expand<typename P::Up, Shift>;
        expand_down = expand<typename P::Down, Shift>;
        reduce_up = reduce<typename P::Up, Shift>;
        reduce_down = reduce<typename P::Down, Shift>;
    }
    RowFilters(const Link<T>& up, const Link<T>& down, bool lanes_are_channels) {
        with_pair(up, down, [&](auto pair) {
            if (lanes_are_channels)
                take<decltype(pair), Lanes<T>::W>();
            else
                take<decltype(pair), 1>();
        });
    }
};

template <class T>
struct ColumnFilter {
    using Filter = void (*)(const Columns<T>&, const Link<T>&, const Link<T>&, T);
    Filter run;

    template <class P, class A, bool Backward>
    static void filter(const Columns<T>& c, const Link<T>& up, const Link<T>& down, T negative) {
        const typename P::Up u(up);
        const typename P::Down d(down);
        A act;
        if constexpr (std::is_same_v<A, LeakyRelu<T>>) act.negative = negative;
        if constexpr (Backward)
            columns_backward<T>(c, u, d, act);
        else
            columns_forward<T>(c, u, d, act);
    }
    template <class P, class A>
    static Filter choose(bool backward) {
        return backward ? filter<P, A, true> : filter<P, A, false>;
    }
    ColumnFilter(const Link<T>& up, const Link<T>& down, Act act, bool backward) {
        with_pair(up, down, [&](auto pair) {
            using P = decltype(pair);
            if (act == Act::leaky_relu) run = choose<P, LeakyRelu<T>>(backward);
            if (act == Act::silu) run = choose<P, Silu<T>>(backward);
            if (act == Act::gelu) run = choose<P, Gelu<T>>(backward);
            if (act == Act::tanh) run = choose<P, Tanh<T>>(backward);
        });
    }
};

}  // namespace ssno::SSNO_ISA::alias_free
