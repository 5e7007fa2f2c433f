// SPDX-License-Identifier: MIT
// Products of matrices in shared memory, their sums in registers: on the units for multiply-adds,
// and on the tensor cores. An operand is asked for its elements (k, i): k is summed over, i is a
// row of the result for the left factor and a column for the right one.
#pragma once

#include "damped_conv/plan_cuda.h"

namespace ssno::damped_conv {

using cuda::lane;
using cuda::Pack;
using cuda::Shared;
using cuda::shared;
using cuda::sync_block;
using cuda::thread;

// Four neighbouring elements, the first one's number a multiple of 4
template <class T>
SSNO_DEVICE void load_four(Shared<T> p, int i, T (&x)[4]) {
    if constexpr (sizeof(T) == 4) {
        const Pack<T> v = p.load16(i);
#pragma unroll
        for (int j = 0; j < 4; ++j) x[j] = v.v[j];
    } else {
        const Pack<T> v = p.load16(i), w = p.load16(i + 2);
        x[0] = v.v[0], x[1] = v.v[1], x[2] = w.v[0], x[3] = w.v[1];
    }
}

// (k, i) is element i of row first + by k.
template <class T, int PITCH>
struct Rows {
    Shared<T> p;
    int first = 0, by = 1;
    SSNO_DEVICE T at(int k, int i) const { return p.load((first + by * k) * PITCH + i); }
    // Of i to i + 3 and row k + next, k being a multiple of 4
    SSNO_DEVICE void four(int k, int next, int i, T (&x)[4]) const {
        load_four(p, (first + by * (k + next)) * PITCH + i, x);
    }
};

// (k, i) is element k of row i.
template <class T, int PITCH>
struct Lines {
    Shared<T> p;
    SSNO_DEVICE T at(int k, int i) const { return p.load(i * PITCH + k); }
};

// (k, i) is the lag i - k. Of the lags there are four copies, each one element on, so that four
// neighbours are one access.
template <class T, int STEPS>
struct Toeplitz {
    static constexpr int COPY = 2 * STEPS + 4, SIZE = 4 * COPY;
    Shared<T> p;
    SSNO_DEVICE T at(int k, int i) const { return p.load(i - k + STEPS - 1); }
    SSNO_DEVICE void four(int k, int next, int i, T (&x)[4]) const {
        load_four(p + (3 - next) * COPY, i - k + STEPS - 4, x);
    }
};

template <class T, int ROWS, int COLS>
class FmaProduct {
  public:
    static constexpr int M = ROWS * COLS / THREADS / 4;
    static constexpr int GROUPS = ROWS / M;  // of rows, each a thread's of a column
    static_assert(M % 4 == 0);

    SSNO_DEVICE FmaProduct() {
#pragma unroll
        for (int i = 0; i < M; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) y_[i][j] = 0;
    }
    // Adds a b over k from `begin` to `end`, multiples of 4.
    template <class A, class B>
    SSNO_DEVICE void add(const A& a, const B& b, int begin, int end) {
#pragma unroll 1
        for (int k = begin; k < end; k += 4)
#pragma unroll
            for (int next = 0; next < 4; ++next) {
                T x[M], w[4];
                load(a, b, k, next, x, w);
                multiply(x, w);
            }
    }
    // The same, and to `slope` the sum in which each product counts k times
    template <class A, class B>
    SSNO_DEVICE void add(const A& a, const B& b, int begin, int end, FmaProduct& slope) {
#pragma unroll 1
        for (int k = begin; k < end; k += 4)
#pragma unroll
            for (int next = 0; next < 4; ++next) {
                T x[M], w[4];
                load(a, b, k, next, x, w);
                multiply(x, w);
#pragma unroll
                for (int j = 0; j < 4; ++j) w[j] *= static_cast<T>(k + next);
                slope.multiply(x, w);
            }
    }
    // f(row, column, element, element of the next column), for every other column
    template <class F>
    SSNO_DEVICE void pairs(const F& f) {
#pragma unroll
        for (int i = 0; i < M; ++i)
#pragma unroll
            for (int j = 0; j < 4; j += 2) f(row(i), column() + j, y_[i][j], y_[i][j + 1]);
    }
    static constexpr int PAIRS = 2;  // of columns of a thread
    // f(j, i, row, column, sums of pair j of columns) adds what element i of the pair adds.
    template <int COUNT, class F>
    SSNO_DEVICE static void column_sums(const F& f, T (&sums)[PAIRS][COUNT]) {
#pragma unroll
        for (int j = 0; j < PAIRS; ++j) {
#pragma unroll
            for (int k = 0; k < COUNT; ++k) sums[j][k] = 0;
#pragma unroll
            for (int i = 0; i < M; ++i) f(j, i, row(i), column() + 2 * j, sums[j]);
        }
    }
    // f(j, column, group of rows) for the sums that this thread has
    template <class F>
    SSNO_DEVICE static void each_sum(const F& f) {
#pragma unroll
        for (int j = 0; j < PAIRS; ++j) f(j, column() + 2 * j, thread() % GROUPS);
    }
    SSNO_DEVICE T re(int j, int i) const { return y_[i][2 * j]; }
    SSNO_DEVICE T im(int j, int i) const { return y_[i][2 * j + 1]; }

  private:
    SSNO_DEVICE static int row(int i) {
        return i / 4 * 4 * GROUPS + 4 * (thread() % GROUPS) + i % 4;
    }
    SSNO_DEVICE static int column() { return 4 * (thread() / GROUPS); }
    template <class A, class B>
    SSNO_DEVICE static void load(const A& a, const B& b, int k, int next, T (&x)[M], T (&w)[4]) {
#pragma unroll
        for (int i = 0; i < M; i += 4) {
            T four[4];
            a.four(k, next, row(i), four);
#pragma unroll
            for (int j = 0; j < 4; ++j) x[i + j] = four[j];
        }
        b.four(k, next, column(), w);
    }
    SSNO_DEVICE void multiply(const T (&x)[M], const T (&w)[4]) {
#pragma unroll
        for (int i = 0; i < M; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) y_[i][j] = cuda::fma(x[i], w[j], y_[i][j]);
    }

    T y_[M][4];
};

// The same for operands of the kind Lines, a square result.
template <class T, int SIZE, int PITCH>
class FmaInner {
    static constexpr int M = SIZE / 8, N = SIZE / 16;

  public:
    SSNO_DEVICE FmaInner(Lines<T, PITCH> a, Lines<T, PITCH> b, int end) {
#pragma unroll
        for (int i = 0; i < M; ++i)
#pragma unroll
            for (int j = 0; j < N; ++j) y_[i][j] = 0;
#pragma unroll 1
        for (int k = 0; k < end; k += 4) {
            T w[N][4];
#pragma unroll
            for (int j = 0; j < N; ++j) load_four(b.p, column(j) * PITCH + k, w[j]);
#pragma unroll
            for (int i = 0; i < M; ++i) {
                T x[4];
                load_four(a.p, row(i) * PITCH + k, x);
#pragma unroll
                for (int j = 0; j < N; ++j)
#pragma unroll
                    for (int l = 0; l < 4; ++l) y_[i][j] = cuda::fma(x[l], w[j][l], y_[i][j]);
            }
        }
    }
    // f(row, column, element)
    template <class F>
    SSNO_DEVICE void each(const F& f) const {
#pragma unroll
        for (int i = 0; i < M; ++i)
#pragma unroll
            for (int j = 0; j < N; ++j) f(row(i), column(j), y_[i][j]);
    }

  private:
    SSNO_DEVICE static int row(int i) { return thread() % 8 + 8 * i; }
    SSNO_DEVICE static int column(int j) { return thread() / 8 + 16 * j; }

    T y_[M][N];
};

}  // namespace ssno::damped_conv
