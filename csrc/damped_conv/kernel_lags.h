// SPDX-License-Identifier: MIT
// The whole kernel k of one channel, and the way back from its cotangent to the modes. Lag d is
// COLUMNS c + t, and lambda^d the product of two tables: what is made of them are matrix products.
#pragma once

#include "damped_conv/sequence.h"

namespace ssno::SSNO_ISA {

template <class T>
struct KernelLags {
    static constexpr int COLS = COLUMNS<T>;
    const Params& p;
    const int64_t states, blocks, rows;  // rows of COLS lags, blocks of COLS (mode, part)
    Buffer<T> coarse;                    // (rows, N, 2): lambda^(COLS c)
    Buffer<T> seen;                      // (N, 2, COLS): Re and -Im of gain lambda^t
    Buffer<T> fine, slope;               // (blocks, COLS, COLS): lambda^t and t lambda^t
    Buffer<T> sums, slope_sums;          // (rows, COLS)
    Buffer<T> lags;                      // (rows, COLS)

    KernelLags(const Params& params, bool gradients)
        : p(params),
          states(2 * p.modes),
          blocks((states + COLS - 1) / COLS),
          rows((p.length + COLS - 1) / COLS),
          coarse(rows * states),
          seen(gradients ? 0 : states * COLS),
          fine(gradients ? blocks * COLS * COLS : 0),
          slope(gradients ? blocks * COLS * COLS : 0),
          sums(gradients ? rows * COLS : 0),
          slope_sums(gradients ? rows * COLS : 0),
          lags(rows * COLS) {}

    // What multiplies lambda^d in the kernel, but for 2 Re: under "periodic" the images are summed
    Complex gain(const Mode& m) const {
        if (!p.periodic) return m.coeff;
        return m.coeff * inverse(decayed_over(m.rate, static_cast<double>(p.length)));
    }

    // lags[d] = k[d] of one sweep, d < length
    void make(int sweep, int64_t channel) {
        for (int64_t n = 0; n < p.modes; ++n) {
            const Mode m(p, sweep, channel, n);
            fill_coarse(m, n);
            Complex z = 2.0 * gain(m);
            for (int t = 0; t < COLS; ++t, z = z * m.lambda) {
                seen[2 * n * COLS + t] = settled<T>(z.re);
                seen[(2 * n + 1) * COLS + t] = settled<T>(-z.im);
            }
        }
        product<T>({coarse, states, 1}, rows, states, seen, lags, false);
    }

    // visit(n, mode, sum of v_k[d] lambda^d, sum of d v_k[d] lambda^d) from v_k in lags, of which
    // what lies beyond the length must be 0
    template <class F>
    void differentiate(int sweep, int64_t channel, F visit) {
        for (int64_t n = 0; n < p.modes; ++n) {
            const Mode m(p, sweep, channel, n);
            fill_coarse(m, n);
            Complex z{1};
            for (int t = 0; t < COLS; ++t, z = z * m.lambda)
                for (int part = 0; part < 2; ++part) {
                    const int64_t i = 2 * n + part, to = (i / COLS * COLS + t) * COLS + i % COLS;
                    const double value = part ? z.im : z.re;
                    fine[to] = settled<T>(value);
                    slope[to] = settled<T>(t * value);
                }
        }
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t at = block * COLS * COLS;
            product<T>({lags, COLS, 1}, rows, COLS, fine + at, sums, false);
            product<T>({lags, COLS, 1}, rows, COLS, slope + at, slope_sums, false);
            const int64_t last = std::min(states, (block + 1) * COLS);
            for (int64_t i = block * COLS; i < last; i += 2) {
                Complex total, slopes;
                for (int64_t c = 0; c < rows; ++c) {
                    const T* z = coarse + c * states + i;
                    const int64_t j = c * COLS + i - block * COLS;
                    const Complex power{z[0], z[1]}, sum{sums[j], sums[j + 1]};
                    const Complex tilted{slope_sums[j], slope_sums[j + 1]};
                    total = total + power * sum;
                    slopes = slopes + power * (static_cast<double>(c * COLS) * sum + tilted);
                }
                visit(i / 2, Mode(p, sweep, channel, i / 2), total, slopes);
            }
        }
    }

  private:
    void fill_coarse(const Mode& m, int64_t n) {
        const Complex step = decay_over(m.rate, COLS);
        Complex z{1};
        for (int64_t c = 0; c < rows; ++c, z = z * step) {
            coarse[c * states + 2 * n] = settled<T>(z.re);
            coarse[c * states + 2 * n + 1] = settled<T>(z.im);
        }
    }
};

}  // namespace ssno::SSNO_ISA
