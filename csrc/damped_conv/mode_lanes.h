// SPDX-License-Identifier: MIT
// The modes of a channel in double precision: what needs their powers one after another.
#pragma once

#include "damped_conv/numbers.h"

namespace ssno::SSNO_ISA {

struct Mode {
    Complex rate, lambda, coeff;
    Mode(const Params& p, int sweep, int64_t channel, int64_t n) {
        const int64_t i = 2 * ((sweep * p.channels + channel) * p.modes + n);
        rate = {p.rate[i], p.rate[i + 1]};
        coeff = {p.coeff[i], p.coeff[i + 1]};
        lambda = decay_over(rate, 1);
    }
};

// The modes of one sweep of one channel in double precision, modes as lanes: (blocks, 2, lanes).
// Idle lanes are 0.
struct ModeLanes {
    static constexpr int W = Lanes<double>::W;
    const int64_t modes, blocks;
    Buffer<double> lambda, coeff;

    explicit ModeLanes(const Params& p)
        : modes(p.modes),
          blocks((p.modes + W - 1) / W),
          lambda(2 * W * blocks),
          coeff(2 * W * blocks) {
        std::memset(coeff, 0, size() * sizeof(double));
        std::memset(lambda, 0, size() * sizeof(double));
    }
    int64_t size() const { return 2 * W * blocks; }
    static int64_t at(int64_t n) { return n / W * 2 * W + n % W; }
    static Complex number(const double* x, int64_t n) { return {x[at(n)], x[at(n) + W]}; }
    Point<double> lambda_of(int64_t block) const {
        return Point<double>::load(lambda + block * 2 * W);
    }
    Point<double> coeff_of(int64_t block) const {
        return Point<double>::load(coeff + block * 2 * W);
    }

    void read(const Params& p, int sweep, int64_t channel) {
        const int64_t first = 2 * (sweep * p.channels + channel) * modes;
        const double *rates = p.rate + first, *coeffs = p.coeff + first;
        for (int64_t n = 0; n < modes; ++n) {
            lambda[at(n)] = rates[2 * n];
            lambda[at(n) + W] = rates[2 * n + 1];
            coeff[at(n)] = coeffs[2 * n];
            coeff[at(n) + W] = coeffs[2 * n + 1];
        }
        for (int64_t block = 0; block < blocks; ++block)
            decay(lambda_of(block)).store(lambda + block * 2 * W);
        for (int64_t n = modes; n < blocks * W; ++n) lambda[at(n)] = lambda[at(n) + W] = 0;
    }

    // lag[e stride + lane] += the kernel's lag e, for e < count, over the modes of a lane
    void add_lags(int64_t count, double* lag, int64_t stride) const {
        int64_t block = 0;
        for (; block + 4 <= blocks; block += 4) add_lags_of<4>(block, count, lag, stride);
        for (; block < blocks; ++block) add_lags_of<1>(block, count, lag, stride);
    }

    // sum = sum over d < count of m[d] lambda^d, and slope that of d m[d] lambda^d, of all modes
    void polynomials(const double* m, int64_t count, double* sum, double* slope) const {
        int64_t block = 0;
        for (; block + 4 <= blocks; block += 4) polynomials_of<4>(block, m, count, sum, slope);
        for (; block < blocks; ++block) polynomials_of<1>(block, m, count, sum, slope);
    }

  private:
    // exp(rate), the exact 0 where that is nothing
    static SSNO_INLINE Point<double> decay(const Point<double>& rate) {
        constexpr double TURNS = 0.63661977236758134308, LOW = -3.93573533503649652e-17;
        const Vec<double> magnitude = exp2<double>(rate.re * LOG2_E);
        Vec<double> cosine, sine;
        cos_sin_quarters<double>(rate.im, splat<double>(TURNS), splat<double>(LOW), cosine, sine);
        const IVec<double> none = (IVec<double>)(magnitude == 0.0);
        return {from_bits<double>(bits<double>(magnitude * cosine) & ~none),
                from_bits<double>(bits<double>(magnitude * sine) & ~none)};
    }

    template <int R>
    void add_lags_of(int64_t block, int64_t count, double* lag, int64_t stride) const {
        Point<double> z[R], by[R];
        for (int i = 0; i < R; ++i) {
            const Point<double> c = coeff_of(block + i);
            z[i] = c + c;
            by[i] = lambda_of(block + i);
        }
        for (int64_t e = 0; e < count; ++e, lag += stride) {
            Vec<double> sum = load<double>(lag);
            for (int i = 0; i < R; ++i) {
                sum += z[i].re;
                z[i] = z[i] * by[i];
            }
            SSNO_ISA::store<double>(lag, sum);
        }
    }

    // Horner's rule, and its derivative's
    template <int R>
    void polynomials_of(int64_t block, const double* m, int64_t count, double* sum,
                        double* slope) const {
        Point<double> x[R], y[R], by[R];
        for (int i = 0; i < R; ++i) {
            x[i] = y[i] = Point<double>{};
            by[i] = lambda_of(block + i);
        }
        for (int64_t d = count - 1; d >= 0; --d)
            for (int i = 0; i < R; ++i) {
                y[i] = y[i] * by[i] + x[i];
                x[i] = x[i] * by[i];
                x[i].re += m[d];
            }
        for (int i = 0; i < R; ++i) {
            x[i].store(sum + (block + i) * 2 * W);
            (y[i] * by[i]).store(slope + (block + i) * 2 * W);
        }
    }
};

}  // namespace ssno::SSNO_ISA
