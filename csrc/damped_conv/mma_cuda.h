// SPDX-License-Identifier: MIT
// Products of matrices on the tensor cores, in tf32: it holds what 16 bits hold exactly, and rounds
// tables and states to 11 bits, yet has the range of float32.
#pragma once

#include "damped_conv/product_cuda.h"

namespace ssno::damped_conv {

// As FmaProduct, of 64 rows: 16 a warp.
template <int COLS>
class MmaProduct {
  public:
    static constexpr int GROUPS = THREADS / cuda::WARP;  // of rows, each a warp's

    SSNO_DEVICE MmaProduct() {
#pragma unroll
        for (int t = 0; t < TILES; ++t)
#pragma unroll
            for (int i = 0; i < 4; ++i) y_[t][i] = 0;
    }
    template <class A, class B>
    SSNO_DEVICE void add(const A& a, const B& b, int begin, int end) {
#pragma unroll 1
        for (int k = begin; k < end; k += 8) {
            float x[4], w[2];
            load(a, k, x);
#pragma unroll
            for (int t = 0; t < TILES; ++t) {
                load(b, k, t, w);
                cuda::mma_tf32(y_[t], x, w);
            }
        }
    }
    template <class A, class B>
    SSNO_DEVICE void add(const A& a, const B& b, int begin, int end, MmaProduct& slope) {
#pragma unroll 1
        for (int k = begin; k < end; k += 8) {
            float x[4], w[2];
            load(a, k, x);
#pragma unroll
            for (int t = 0; t < TILES; ++t) {
                load(b, k, t, w);
                cuda::mma_tf32(y_[t], x, w);
#pragma unroll
                for (int i = 0; i < 2; ++i)
                    w[i] = cuda::round_tf32(w[i] * static_cast<float>(k + 4 * i + quad()));
                cuda::mma_tf32(slope.y_[t], x, w);
            }
        }
    }
    // The same of factors that tf32 does not hold, to 21 bits of each.
    template <class A, class B>
    SSNO_DEVICE void add_split(const A& a, const B& b, int begin, int end) {
#pragma unroll 1
        for (int k = begin; k < end; k += 8) {
            float x[4], x_rest[4], w[2], w_rest[2];
            load(a, k, x);
            split(x, x_rest);
#pragma unroll
            for (int t = 0; t < TILES; ++t) {
                load(b, k, t, w);
                split(w, w_rest);
                cuda::mma_tf32(y_[t], x, w_rest);
                cuda::mma_tf32(y_[t], x_rest, w);
                cuda::mma_tf32(y_[t], x, w);
            }
        }
    }
    template <class F>
    SSNO_DEVICE void pairs(const F& f) {
#pragma unroll
        for (int t = 0; t < TILES; ++t)
#pragma unroll
            for (int i = 0; i < 2; ++i) f(row(i), column(t), y_[t][2 * i], y_[t][2 * i + 1]);
    }
    template <class F>
    SSNO_DEVICE void each(const F& f) {
        pairs([&](int row, int column, float x, float y) {
            f(row, column, x);
            f(row, column + 1, y);
        });
    }
    static constexpr int PAIRS = COLS / 8;
    template <int COUNT, class F>
    SSNO_DEVICE static void column_sums(const F& f, float (&sums)[PAIRS][COUNT]) {
#pragma unroll
        for (int t = 0; t < PAIRS; ++t) {
#pragma unroll
            for (int j = 0; j < COUNT; ++j) sums[t][j] = 0;
#pragma unroll
            for (int i = 0; i < 2; ++i) f(t, i, row(i), column(t), sums[t]);
#pragma unroll
            for (int j = 0; j < COUNT; ++j)
#pragma unroll
                for (int mask = 4; mask < cuda::WARP; mask *= 2)
                    sums[t][j] += cuda::shuffle_xor(sums[t][j], mask);
        }
    }
    template <class F>
    SSNO_DEVICE static void each_sum(const F& f) {
        if (lane() < 4)
#pragma unroll
            for (int t = 0; t < PAIRS; ++t) f(t, column(t), cuda::warp());
    }
    SSNO_DEVICE float re(int t, int i) const { return y_[t][2 * i]; }
    SSNO_DEVICE float im(int t, int i) const { return y_[t][2 * i + 1]; }

  private:
    static constexpr int TILES = PAIRS;

    SSNO_DEVICE static int quad() { return lane() % 4; }
    SSNO_DEVICE static int row(int i) { return 16 * cuda::warp() + 8 * i + lane() / 4; }
    SSNO_DEVICE static int column(int t) { return 8 * t + 2 * quad(); }
    template <class A>
    SSNO_DEVICE static void load(const A& a, int k, float (&x)[4]) {
#pragma unroll
        for (int i = 0; i < 4; ++i) x[i] = a.at(k + i / 2 * 4 + quad(), row(i % 2));
    }
    template <class B>
    SSNO_DEVICE static void load(const B& b, int k, int t, float (&w)[2]) {
#pragma unroll
        for (int i = 0; i < 2; ++i) w[i] = b.at(k + 4 * i + quad(), 8 * t + lane() / 4);
    }
    template <int N>
    SSNO_DEVICE static void split(const float (&x)[N], float (&rest)[N]) {
#pragma unroll
        for (int i = 0; i < N; ++i) rest[i] = cuda::rest_tf32(x[i]);
    }

    float y_[TILES][4];
};

template <class K, int ROWS, int COLS, bool MMA = K::MMA>
struct ProductOf {
    using type = FmaProduct<typename K::T, ROWS, COLS>;
};
template <class K, int ROWS, int COLS>
struct ProductOf<K, ROWS, COLS, true> {
    static_assert(ROWS == 64);
    using type = MmaProduct<COLS>;
};
template <class K, int ROWS, int COLS>
using Product = typename ProductOf<K, ROWS, COLS>::type;

// sum_k a(k, i) b(k, j) of operands of the kind Lines; f(i, j, sum). `split`: tf32 does not hold
// them
template <class K, class F>
SSNO_DEVICE void inner_product(Shared<typename K::T> a, Shared<typename K::T> b, bool split,
                               const F& f) {
    using T = typename K::T;
    const Lines<T, K::PITCH> x{a}, y{b};
    if constexpr (K::MMA) {
        MmaProduct<K::STEPS> product;
        if (split)
            product.add_split(x, y, 0, K::COLUMNS);
        else
            product.add(x, y, 0, K::COLUMNS);
        product.each(f);
    } else {
        FmaInner<T, K::STEPS, K::PITCH>(x, y, K::COLUMNS).each(f);
    }
}

}  // namespace ssno::damped_conv
