// SPDX-License-Identifier: MIT
// The transform of one sequence of n numbers in the order that Fft gives its lanes' spectra, and
// back. The sequence is z[i][part][lane], number W i + lane: lanes are transformed along i, turned,
// and then transformed across.
#pragma once

#include "damped_conv/fft.h"

namespace ssno::SSNO_ISA {

inline int64_t reversed_bits(int64_t i, int64_t length) {
    int64_t r = 0;
    for (int64_t bit = 1; bit < length; bit *= 2, i /= 2) r = 2 * r + i % 2;
    return r;
}

template <class T>
struct SequenceFft {
    static constexpr int W = Lanes<T>::W;
    const int64_t n, steps;
    Fft<T> along, across;
    Buffer<T> turns;  // (steps, 2, lanes)

    SequenceFft(int64_t length, const Roots& roots)
        : n(length), steps(length / W), along(steps, roots), across(W, roots), turns(2 * length) {
        for (int64_t i = 0; i < steps; ++i)
            for (int l = 0; l < W; ++l) {
                const Complex w = roots(l * reversed_bits(i, steps) * (roots.order() / n));
                turns[i * 2 * W + l] = static_cast<T>(w.re);
                turns[i * 2 * W + W + l] = static_cast<T>(w.im);
            }
    }
    // Numbers that z must have room for
    int64_t room() const { return 2 * std::max<int64_t>(n, W * W); }

    void forward(T* z) const {
        along.forward(z);
        turn<false>(z);
        over_blocks(z, [&](T* block) { across.forward(block); });
    }
    void inverse(T* z) const {
        over_blocks(z, [&](T* block) { across.inverse(block); });
        turn<true>(z);
        along.inverse(z);
    }

  private:
    template <bool Back>
    void turn(T* z) const {
        for (int64_t i = 0; i < steps; ++i) {
            const Point<T> a = Point<T>::load(z + i * 2 * W), w = Point<T>::load(turns + i * 2 * W);
            const Vec<T> sine = Back ? -w.im : w.im;
            Point<T>{a.re * w.re - a.im * sine, a.re * sine + a.im * w.re}.store(z + i * 2 * W);
        }
    }
    template <class F>
    void over_blocks(T* z, F transform) const {
        for (int64_t i = 0; i < steps; i += W) {
            transpose_parts(z + i * 2 * W);
            transform(z + i * 2 * W);
            transpose_parts(z + i * 2 * W);
        }
    }
    static void transpose_parts(T* block) {
        for (int part = 0; part < 2; ++part) {
            Vec<T> r[W];
            for (int i = 0; i < W; ++i) r[i] = load<T>(block + (2 * i + part) * W);
            transpose<T>(r);
            for (int i = 0; i < W; ++i) store<T>(block + (2 * i + part) * W, r[i]);
        }
    }
};

}  // namespace ssno::SSNO_ISA
