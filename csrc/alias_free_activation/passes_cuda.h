// SPDX-License-Identifier: MIT
// What a block does between two barriers: go along one axis of a tile.
#pragma once

#include "alias_free_activation/plan_cuda.h"
#include "ssno/cuda.h"

namespace ssno::alias_free_activation {

using cuda::Shared;
using cuda::thread;

SSNO_DEVICE int divide(int n, Divider d) {
    return static_cast<int>(static_cast<uint64_t>(static_cast<uint32_t>(n)) * d.magic >> 31);
}

// A link whose taps are known to the compiler: its weights are in registers.
template <class T, int Taps, int Rate>
struct FixedLink {
    static constexpr int STEPS = Taps > 12 ? 4 : 8, WINDOW = (Taps + Rate - 1) / Rate;
    static constexpr int SPAN = (STEPS - 1) * Rate + Taps, rate = Rate;
    T h[Taps];

    static bool fits(int64_t taps, int64_t rate) { return taps == Taps && rate == Rate; }
    static LinkSize size(int64_t, int64_t) { return {Taps, Rate, STEPS}; }
    SSNO_DEVICE FixedLink(Shared<T> weights, LinkSize) {
#pragma unroll
        for (int k = 0; k < Taps; ++k) h[k] = weights.load(k);
    }

    // put(i, s) for the fine samples of STEPS coarse ones; `from` is the first of the window.
    template <class Put>
    SSNO_DEVICE void expand(Shared<T> from, int step, const Put& put) const {
        T x[STEPS + WINDOW - 1];
#pragma unroll
        for (int i = 0; i < STEPS + WINDOW - 1; ++i) x[i] = from.load(i * step);
#pragma unroll
        for (int a = 0; a < STEPS; ++a)
#pragma unroll
            for (int r = 0; r < Rate; ++r) {
                T s = 0;
#pragma unroll
                for (int i = 0; i < WINDOW; ++i)
                    if (r + i * Rate < Taps)
                        s = cuda::fma(h[r + i * Rate], x[a + WINDOW - 1 - i], s);
                put(a * Rate + r, s);
            }
    }

    // put(i, s) for STEPS coarse samples; `from` is the first fine one that the first is linked to.
    template <class Put>
    SSNO_DEVICE void reduce(Shared<T> from, int step, const Put& put) const {
        T s[STEPS] = {};
#pragma unroll
        for (int j = 0; j < SPAN; ++j) {
            const T t = from.load(j * step);
#pragma unroll
            for (int a = 0; a < STEPS; ++a)
                if (j >= a * Rate && j - a * Rate < Taps)
                    s[a] = cuda::fma(h[j - a * Rate], t, s[a]);
        }
#pragma unroll
        for (int a = 0; a < STEPS; ++a) put(a, s[a]);
    }
};

// Any link, a coarse sample at a time.
template <class T>
struct AnyLink {
    static constexpr int STEPS = 1;
    Shared<T> h;
    int taps, rate;

    static bool fits(int64_t, int64_t) { return true; }
    static LinkSize size(int64_t taps, int64_t rate) {
        return {static_cast<int>(taps), static_cast<int>(rate), STEPS};
    }
    SSNO_DEVICE AnyLink(Shared<T> weights, LinkSize size)
        : h(weights), taps(size.taps), rate(size.rate) {}

    template <class Put>
    SSNO_DEVICE void expand(Shared<T> from, int step, const Put& put) const {
        const int window = (taps + rate - 1) / rate;
        for (int r = 0; r < rate; ++r) {
            T s = 0;
            for (int k = r, i = window - 1; k < taps; k += rate, --i)
                s = cuda::fma(h.load(k), from.load(i * step), s);
            put(r, s);
        }
    }
    template <class Put>
    SSNO_DEVICE void reduce(Shared<T> from, int step, const Put& put) const {
        T s = 0;
        for (int k = 0; k < taps; ++k) s = cuda::fma(h.load(k), from.load(k * step), s);
        put(0, s);
    }
};

// A piece of a line: which of the line's pieces, the line's place on the other axis, and where the
// line begins in both buffers.
struct Piece {
    int number, across, from, to;
};
SSNO_DEVICE Piece piece_of(const Pass& p, int item) {
    Piece at;
    at.number = divide(item, p.by_lines);
    const int line = item - at.number * p.lines, channel = divide(line, p.by_across);
    at.across = line - channel * static_cast<int>(p.by_across.by);
    at.from = at.across * p.from.across + channel * p.from.channel;
    at.to = at.across * p.to.across + channel * p.to.channel;
    return at;
}

// From coarse to fine samples: put(place in the buffer, fine sample f, s) for each, and end(piece,
// first f, count) for each piece. If Shifted, the link's begin `shift` before the buffer's.
template <bool Shifted, class T, class L, class Put, class End>
SSNO_DEVICE void expand(const Pass& p, const L& link, Shared<T> from, int shift, const Put& put,
                        const End& end) {
    for (int item = thread(); item < p.items; item += THREADS) {
        const Piece at = piece_of(p, item);
        const int first = at.number * L::STEPS, f0 = first * link.rate - (Shifted ? shift : 0);
        link.expand(from + (at.from + first * p.from.step), p.from.step, [&](int i, T s) {
            const int f = f0 + i;
            if (!Shifted || (f >= 0 && f < p.size)) put(at.to + f * p.to.step, f, s);
        });
        end(at, f0, L::STEPS * link.rate);
    }
}
template <bool Shifted, class T, class L>
SSNO_DEVICE void expand(const Pass& p, const L& link, Shared<T> from, int shift, Shared<T> to) {
    expand<Shifted>(
        p, link, from, shift, [&](int i, int, T s) { to.store(i, s); },
        [](const Piece&, int, int) {});
}

// From fine to coarse samples; the first is linked with fine samples from `skip` on.
template <class T, class L>
SSNO_DEVICE void reduce(const Pass& p, const L& link, Shared<T> from, int skip, Shared<T> to) {
    for (int item = thread(); item < p.items; item += THREADS) {
        const Piece at = piece_of(p, item);
        const int first = at.number * L::STEPS;
        link.reduce(from + (at.from + (first * link.rate + skip) * p.from.step), p.from.step,
                    [&](int i, T s) { to.store(at.to + (first + i) * p.to.step, s); });
    }
}

// Where an element of a slice lies, in slice 0 of all and in the single one.
struct SliceItem {
    int of_all, of_slice;
};
SSNO_DEVICE SliceItem slice_item(const Slices& s, int item) {
    const int rest = divide(item, s.by_w), w = item - rest * static_cast<int>(s.by_w.by);
    const int c = divide(rest, s.by_h), h = rest - c * static_cast<int>(s.by_h.by);
    return {h * s.row + w + c * s.channel, h * s.row + w + c * s.of_slice};
}

// One fine sample of D from the slices of a buffer; `f` counts from where the link's begin.
template <class T>
SSNO_DEVICE void expand_depth(const Slices& s, Shared<T> h, LinkSize link, Shared<T> from, int f,
                              Shared<T> to) {
    const int last = f / link.rate + link.window() - 1, first_tap = f % link.rate;
    for (int item = thread(); item < s.items; item += THREADS) {
        const SliceItem at = slice_item(s, item);
        T sum = 0;
        for (int k = first_tap, n = last; k < link.taps; k += link.rate, --n)
            sum = cuda::fma(h.load(k), from.load(at.of_all + n * s.stride), sum);
        to.store(at.of_slice, sum);
    }
}

// A fine sample of D added to the slices that it is linked with, `f` from the first one of slice 0.
template <class T>
SSNO_DEVICE void reduce_depth(const Slices& s, Shared<T> h, LinkSize link, Shared<T> from, int f,
                              Shared<T> to) {
    for (int item = thread(); item < s.items; item += THREADS) {
        const SliceItem at = slice_item(s, item);
        const T t = from.load(at.of_slice);
        for (int n = 0, k = f; n < s.count && k >= 0; ++n, k -= link.rate) {
            const int i = at.of_all + n * s.stride;
            if (k < link.taps) to.store(i, cuda::fma(h.load(k), t, to.load(i)));
        }
    }
}
template <class T>
SSNO_DEVICE void clear_depth(const Slices& s, Shared<T> to) {
    for (int item = thread(); item < s.items; item += THREADS)
        for (int n = 0; n < s.count; ++n) to.store(slice_item(s, item).of_all + n * s.stride, T(0));
}

}  // namespace ssno::alias_free_activation
