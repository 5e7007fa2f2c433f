// SPDX-License-Identifier: MIT
// A link between the samples of a coarse grid and the fine one where the nonlinearity acts, along
// one axis. Coarse sample n and fine sample j are linked by the weight
//     h[j + c - n rate]    where that is one of the taps of h, else 0.
// (A3) and the transpose of (A5) expand by a link, from coarse to fine; (A5) and the transpose of
// (A3) reduce by one. The links of a call share a period, the least common multiple of up and down:
// `period` fine samples beside `per` = period / rate coarse ones, and all phases within a period
// keep their weights. Signals are kept as one array for each phase, so that every sum runs over
// adjacent elements.
#pragma once

#include "ssno/vec.h"

namespace ssno::SSNO_ISA::alias_free {

constexpr int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
constexpr int64_t floor_mod(int64_t a, int64_t b) { return a - floor_div(a, b) * b; }

template <int N>
using Constant = std::integral_constant<int, N>;

// f(0), ..., f(count - 1): unrolled, with constants, where count is one.
template <class F, int... I>
SSNO_INLINE void each_of(const F& f, std::integer_sequence<int, I...>) {
    (f(Constant<I>{}), ...);
}
template <int N, class F>
SSNO_INLINE void each(Constant<N>, const F& f) {
    each_of(f, std::make_integer_sequence<int, N>{});
}
template <class F>
SSNO_INLINE void each(int count, const F& f) {
    for (int i = 0; i < count; ++i) f(i);
}
#define SSNO_LAMBDA __attribute__((always_inline))

// Any link. Coarse samples that fine period i is linked with: per * i + first + w, w < window.
template <class T>
struct Link {
    const T* h;
    int taps, rate, period;
    int64_t c;
    int per, window, base, rho, kappa;
    int64_t first;

    Link() = default;
    Link(const T* weights, int64_t count, int64_t r, int64_t p, int64_t offset)
        : h(weights),
          taps(static_cast<int>(count)),
          rate(static_cast<int>(r)),
          period(static_cast<int>(p)),
          c(offset),
          per(static_cast<int>(p / r)),
          rho(static_cast<int>(floor_mod(offset, r))),
          kappa(static_cast<int>(floor_mod(-offset, p))) {
        base = static_cast<int>(floor_div(rho - taps, rate)) + 1;
        window = static_cast<int>(floor_div(period - 1 + rho, rate)) - base + 1;
        first = floor_div(c, rate) + base;
    }

    static bool fits(const Link&) { return true; }
    // f(w, k) for the members w of the window that are linked with phase q, by tap k
    template <class F>
    SSNO_INLINE void each_tap(int q, const F& f) const {
        const int most = q + rho - base * rate;  // the tap of w = 0
        const int begin = most < taps ? 0 : (most - taps) / rate + 1;
        for (int w = begin, k = most - begin * rate; k >= 0; ++w, k -= rate) f(w, k);
    }
    int get_period() const { return period; }
    int get_per() const { return per; }
    int get_window() const { return window; }
    int get_kept() const { return window - per; }  // of a window, by the next period's
    int get_taps() const { return taps; }
};

// The same with everything but the weights known to the compiler; Offset is c modulo the period.
template <class T, int Taps, int Rate, int Period, int Offset>
struct FixedLink {
    static constexpr int taps = Taps, rate = Rate, period = Period, per = Period / Rate,
                         rho = Offset % Rate, kappa = (Period - Offset) % Period,
                         base = static_cast<int>(floor_div(rho - Taps, Rate)) + 1,
                         window = static_cast<int>(floor_div(Period - 1 + rho, Rate)) - base + 1;
    const T* h;

    explicit FixedLink(const Link<T>& link) : h(link.h) {}
    static bool fits(const Link<T>& link) {
        return link.taps == Taps && link.rate == Rate && link.period == Period &&
               floor_mod(link.c, Period) == Offset;
    }
    template <class Q, class F>
    SSNO_INLINE static void each_tap(Q, const F& f) {
        each(Constant<window>{}, [&](auto w) SSNO_LAMBDA {
            constexpr int k = Q::value + rho - (base + decltype(w)::value) * Rate;
            if constexpr (k >= 0 && k < Taps) f(w, Constant<k>{});
        });
    }
    static constexpr Constant<period> get_period() { return {}; }
    static constexpr Constant<per> get_per() { return {}; }
    static constexpr Constant<window> get_window() { return {}; }
    static constexpr Constant<window - per> get_kept() { return {}; }
    static constexpr Constant<taps> get_taps() { return {}; }
};

// The vectors of a link's window: in registers where it is fixed, else in memory.
template <class T, class L>
struct Window {
    Vec<T> v[L::window];
    explicit Window(T*) {}
    SSNO_INLINE Vec<T>& operator[](int w) { return v[w]; }
};
template <class T>
struct Window<T, Link<T>> {
    Vec<T>* v;
    explicit Window(T* room) : v(reinterpret_cast<Vec<T>*>(room)) {}
    SSNO_INLINE Vec<T>& operator[](int w) { return v[w]; }
};

}  // namespace ssno::SSNO_ISA::alias_free
