// SPDX-License-Identifier: MIT
// Small matrix products whose right-hand side and result have a tile's columns as lanes.
#pragma once

#include "damped_conv/columns.h"

namespace ssno::SSNO_ISA {

constexpr int BLOCK_ROWS =
    SSNO_VECTOR_BYTES == 64 ? 8 : 4;  // accumulators in registers: twice as many

// A matrix of which element (i, k) lies at p[i * row + k * column]
template <class T>
struct Matrix {
    const T* p;
    int64_t row, column;
};

template <class T, int R>
SSNO_INLINE void product_rows(Matrix<T> A, int64_t depth, const T* B, T* C, bool add) {
    constexpr int W = Lanes<T>::W, COLS = COLUMNS<T>;
    Vec<T> sum[R][2];
    for (int i = 0; i < R; ++i)
        for (int v = 0; v < 2; ++v) sum[i][v] = add ? load<T>(C + i * COLS + v * W) : Vec<T>{};
    for (int64_t k = 0; k < depth; ++k) {
        const Vec<T> b0 = load<T>(B + k * COLS), b1 = load<T>(B + k * COLS + W);
#pragma GCC unroll 8
        for (int i = 0; i < R; ++i) {
            const Vec<T> a = splat<T>(A.p[i * A.row + k * A.column]);
            sum[i][0] += a * b0;
            sum[i][1] += a * b1;
        }
    }
    for (int i = 0; i < R; ++i)
        for (int v = 0; v < 2; ++v) store<T>(C + i * COLS + v * W, sum[i][v]);
}

// C[i][column] = (C +) sum over k < depth of A[i][k] B[k][column], for i < rows
template <class T, int R = BLOCK_ROWS>
void product(Matrix<T> A, int64_t rows, int64_t depth, const T* B, T* C, bool add) {
    int64_t i = 0;
    for (; i + R <= rows; i += R)
        product_rows<T, R>({A.p + i * A.row, A.row, A.column}, depth, B, C + i * COLUMNS<T>, add);
    if constexpr (R > 1)
        if (i < rows)
            product<T, R / 2>({A.p + i * A.row, A.row, A.column}, rows - i, depth, B,
                              C + i * COLUMNS<T>, add);
}

// Y[t] = sum over s < steps of kernel[t - s] X[s]. Lags below 0 or above 0 may be known to be 0.
template <class T>
void toeplitz(const T* kernel, bool past, bool future, int64_t steps, const T* X, T* Y) {
    for (int64_t t = 0; t < steps; t += BLOCK_ROWS) {
        const int64_t rows = std::min<int64_t>(BLOCK_ROWS, steps - t);
        const int64_t from = past ? 0 : t, to = future ? steps : t + rows;
        product<T>({kernel + t - from, 1, -1}, rows, to - from, X + from * COLUMNS<T>,
                   Y + t * COLUMNS<T>, false);
    }
}

// sums[d][lane] += sum over t and columns of later[t] earlier[t - d], for d < lags
template <class T, int R = BLOCK_ROWS>
void lag_sums(int64_t lags, int64_t steps, const T* later, const T* earlier, T* sums) {
    constexpr int W = Lanes<T>::W, COLS = COLUMNS<T>;
    int64_t d = 0;
    for (; d + R <= lags; d += R) {
        Vec<T> sum[R];
        for (int i = 0; i < R; ++i) sum[i] = load<T>(sums + (d + i) * W);
        for (int i = 0; i < R; ++i)
            for (int64_t t = d + i; t < std::min(steps, d + R - 1); ++t)
                for (int v = 0; v < COLS; v += W)
                    sum[i] +=
                        load<T>(later + t * COLS + v) * load<T>(earlier + (t - d - i) * COLS + v);
        for (int64_t t = d + R - 1; t < steps; ++t)
            for (int v = 0; v < COLS; v += W) {
                const Vec<T> x = load<T>(later + t * COLS + v);
#pragma GCC unroll 8
                for (int i = 0; i < R; ++i) sum[i] += x * load<T>(earlier + (t - d - i) * COLS + v);
            }
        for (int i = 0; i < R; ++i) store<T>(sums + (d + i) * W, sum[i]);
    }
    if constexpr (R > 1)
        if (d < lags)
            lag_sums<T, R / 2>(lags - d, steps - d, later + d * COLS, earlier, sums + d * W);
}

}  // namespace ssno::SSNO_ISA
