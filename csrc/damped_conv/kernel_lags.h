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
    const int64_t modes, states;
    const int64_t blocks, rows;            // blocks of COLS of the (part, mode); rows of COLS lags
    Buffer<Complex> closure, gain;         // (N): 1 / (1 - lambda^L), and what multiplies lambda^d
    Buffer<double> lambda, factor, power;  // (part, N)
    Buffer<T> coarse;                      // (rows, part, N): lambda^(COLS c)
    Buffer<T> seen;                        // (part, N, COLS): Re and -Im of 2 gain lambda^t
    Buffer<T> fine, slope;                 // (blocks, COLS, COLS): lambda^t and t lambda^t
    Buffer<T> sums, slope_sums;            // (blocks, rows, COLS)
    Buffer<double> totals;                 // (2, part, N)
    Buffer<T> lags;                        // (rows, COLS)

    KernelLags(const Params& params, bool gradients)
        : p(params),
          modes(p.modes),
          states(2 * p.modes),
          blocks((states + COLS - 1) / COLS),
          rows((p.length + COLS - 1) / COLS),
          closure(modes),
          gain(modes),
          lambda(states),
          factor(states),
          power(states),
          coarse(rows * states),
          seen(states * COLS),
          fine(gradients ? blocks * COLS * COLS : 0),
          slope(gradients ? blocks * COLS * COLS : 0),
          sums(gradients ? blocks * rows * COLS : 0),
          slope_sums(gradients ? blocks * rows * COLS : 0),
          totals(gradients ? 2 * states : 0),
          lags(rows * COLS) {}

    // lags[d] = k[d] of one sweep, d < length
    void make(int sweep, int64_t channel) {
        begin(sweep, channel);
        for (int64_t n = 0; n < modes; ++n) {
            power[n] = 2 * gain[n].re;
            power[modes + n] = 2 * gain[n].im;
        }
        for (int t = 0; t < COLS; ++t) {
            for (int64_t n = 0; n < modes; ++n) {
                seen[n * COLS + t] = settled<T>(power[n]);
                seen[(modes + n) * COLS + t] = settled<T>(-power[modes + n]);
            }
            raise(power, lambda);
        }
        product<T>({coarse, states, 1}, rows, states, seen, lags, false);
    }

    // totals = sum of v_k[d] lambda^d and sum of d v_k[d] lambda^d from v_k in lags, of which what
    // lies beyond the length must be 0
    void differentiate(int sweep, int64_t channel) {
        begin(sweep, channel);
        set_to_one();
        for (int t = 0; t < COLS; ++t) {
            for (int64_t first = 0; first < states; first += COLS) {
                const int64_t to = (first + t) * COLS;
                for (int64_t i = 0; i < std::min<int64_t>(COLS, states - first); ++i) {
                    fine[to + i] = settled<T>(power[first + i]);
                    slope[to + i] = settled<T>(t * power[first + i]);
                }
            }
            raise(power, lambda);
        }
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t table = block * COLS * COLS, to = block * rows * COLS;
            product<T>({lags, COLS, 1}, rows, COLS, fine + table, sums + to, false);
            product<T>({lags, COLS, 1}, rows, COLS, slope + table, slope_sums + to, false);
        }
        std::memset(totals, 0, 2 * states * sizeof(double));
        for (int64_t c = 0; c < rows; ++c) add_row(c);
    }
    Complex total(int64_t n) const { return {totals[n], totals[modes + n]}; }
    Complex total_slope(int64_t n) const {
        return {totals[states + n], totals[states + modes + n]};
    }

  private:
    // The modes of a sweep, and all of coarse
    void begin(int sweep, int64_t channel) {
        const double L = static_cast<double>(p.length);
        for (int64_t n = 0; n < modes; ++n) {
            const Mode m(p, sweep, channel, n);
            closure[n] = p.periodic ? inverse(decayed_over(m.rate, L)) : Complex{1};
            gain[n] = m.coeff * closure[n];
            put(lambda, n, m.lambda);
            put(factor, n, m.lambda);
        }
        for (int t = 1; t < COLS; t *= 2) raise(factor, factor);
        set_to_one();
        for (int64_t c = 0; c < rows; ++c) {
            for (int64_t i = 0; i < states; ++i) coarse[c * states + i] = settled<T>(power[i]);
            raise(power, factor);
        }
    }
    void put(double* to, int64_t n, Complex z) const {
        to[n] = z.re;
        to[modes + n] = z.im;
    }
    void set_to_one() {
        for (int64_t n = 0; n < modes; ++n) put(power, n, {1});
    }
    void raise(double* to, const double* by) const {  // to *= by
        double *re = to, *im = to + modes;
        const double *a = by, *b = by + modes;
        for (int64_t n = 0; n < modes; ++n) {
            const double r = re[n] * a[n] - im[n] * b[n], i = re[n] * b[n] + im[n] * a[n];
            re[n] = r;
            im[n] = i;
        }
    }
    // What row c of the lags adds to the totals
    void add_row(int64_t c) {
        const double before = static_cast<double>(c * COLS);
        double *re = totals, *im = re + modes, *slope_re = im + modes, *slope_im = slope_re + modes;
        const T *a = coarse + c * states, *b = a + modes;
        auto at = [&](int64_t i) { return (i / COLS * rows + c) * COLS + i % COLS; };
        for (int64_t n = 0; n < modes; ++n) {
            const int64_t i = at(n), j = at(modes + n);
            const double x = sums[i], y = sums[j];
            const double u = before * x + slope_sums[i], v = before * y + slope_sums[j];
            re[n] += a[n] * x - b[n] * y;
            im[n] += a[n] * y + b[n] * x;
            slope_re[n] += a[n] * u - b[n] * v;
            slope_im[n] += a[n] * v + b[n] * u;
        }
    }
};

}  // namespace ssno::SSNO_ISA
