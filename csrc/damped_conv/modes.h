// SPDX-License-Identifier: MIT
// Tables of one channel: powers of lambda, made in double precision, and the kernel's first lags.
#pragma once

#include "damped_conv/mode_lanes.h"

namespace ssno::SSNO_ISA {

// A recurrence over the samples of a chunk in the order of its walk: with e steps to come,
// state += scale lambda^e x, then y = Re(seen lambda^steps_done state). The sweep itself has scale
// 1 and seen 2 c lambda; its adjoint has scale 2 c lambda and seen 1, and walks the other way.
template <class T>
struct Walk {
    const T* power;    // (chunk + 1, N, 2): lambda^e
    const T* slope;    // (chunk, N, 2): e lambda^e; null if not made
    const T* observe;  // (chunk, N, 2): the real part and minus the imaginary part of seen lambda^e
    const T* scale;    // (N, 2); null for 1
    bool from_end;
    int64_t modes;

    int64_t states() const { return 2 * modes; }

    // By which a chunk of samples contributes to the states at its end, from `table`
    Matrix<T> inject(const T* table, int64_t steps) const {
        if (from_end) return {table, 1, states()};
        return {table + (steps - 1) * states(), 1, -states()};
    }
    // By which the states before a chunk contribute to its samples
    Matrix<T> output(int64_t steps) const {
        if (!from_end) return {observe, states(), 1};
        return {observe + (steps - 1) * states(), -states(), 1};
    }
};

template <class T>
struct ModeTables {
    static constexpr int W = ModeLanes::W;
    ModeLanes lanes;
    Buffer<T> power, slope, observe, scale;
    int64_t modes, chunk;
    bool from_end, adjoint;

    // Powers where states are carried from chunk to chunk, slopes where they are differentiated
    ModeTables(const Params& p, int sweep, int64_t chunk_, bool is_adjoint, bool powers,
               bool slopes)
        : lanes(p),
          power(powers ? (chunk_ + 1) * 2 * p.modes : 0),
          slope(powers && slopes ? chunk_ * 2 * p.modes : 0),
          observe(powers ? chunk_ * 2 * p.modes : 0),
          scale(powers && is_adjoint ? 2 * p.modes : 0),
          modes(p.modes),
          chunk(chunk_),
          from_end(p.from_end[sweep] != is_adjoint),
          adjoint(is_adjoint) {}

    // Fill for one channel, and add the kernel's lags 0 .. chunk - 1, in W parts each, to lag[0],
    // lag[stride], ...
    void fill(const Params& p, int sweep, int64_t channel, double* lag, int64_t stride) {
        lanes.read(p, sweep, channel);
        lanes.add_lags(chunk, lag, stride);
        for (int64_t block = 0; power && block < lanes.blocks; ++block) {
            const Point<double> lambda = lanes.lambda_of(block), coeff = lanes.coeff_of(block);
            const Point<double> gain = (coeff + coeff) * lambda;
            if (adjoint) put(scale, block, gain);
            fill_powers(block, lambda, adjoint ? Point<double>::one() : gain);
        }
    }
    void fill_powers(int64_t block, const Point<double>& lambda, Point<double> seen) {
        Point<double> z = Point<double>::one();
        for (int64_t e = 0; e <= chunk; ++e, z = z * lambda, seen = seen * lambda) {
            const int64_t row = e * 2 * modes;
            put(power + row, block, z);
            if (e == chunk) break;
            put(observe + row, block, {seen.re, -seen.im});
            const double steps = static_cast<double>(e);
            if (slope) put(slope + row, block, {steps * z.re, steps * z.im});
        }
    }
    // A block of modes to (N, 2)
    void put(T* row, int64_t block, const Point<double>& z) const {
        double re[W], im[W];
        store<double>(re, settled<T>(z.re));
        store<double>(im, settled<T>(z.im));
        row += 2 * block * W;
        for (int i = 0; i < std::min<int64_t>(W, modes - block * W); ++i) {
            row[2 * i] = static_cast<T>(re[i]);
            row[2 * i + 1] = static_cast<T>(im[i]);
        }
    }

    Walk<T> walk() const { return {power, slope, observe, scale, from_end, modes}; }
    Walk<T> reversed() const {  // the sweep, of its adjoint's tables, for the states alone
        return {power, slope, nullptr, nullptr, !from_end, modes};
    }
};

// All of one channel. `adjoint`: of the transposed operator
template <class T>
struct ChannelTables {
    static constexpr int W = ModeLanes::W;
    ModeTables<T> first, second;
    Buffer<double> lags;  // of each W parts
    Buffer<T> kernel;     // lags -(chunk - 1) .. chunk - 1
    int64_t chunk;
    bool past, future;  // whether there are lags above and below 0

    ChannelTables(const Params& p, const Plan& plan, bool is_adjoint, bool slopes)
        : first(p, 0, plan.chunk, is_adjoint, plan.has_states, slopes),
          second(p, 1, plan.chunk, is_adjoint, plan.has_states && p.sweeps > 1, slopes),
          lags((2 * plan.chunk - 1 + W) * W),
          kernel(2 * plan.chunk - 1),
          chunk(plan.chunk),
          past(p.sweeps > 1 || !first.from_end),
          future(p.sweeps > 1 || first.from_end) {}

    ModeTables<T>& sweep(int s) { return s ? second : first; }
    const ModeTables<T>& sweep(int s) const { return s ? second : first; }
    const T* lag_zero() const { return kernel + chunk - 1; }

    void fill(const Params& p, int64_t channel) {
        const int64_t count = 2 * chunk - 1;
        std::memset(lags, 0, (count + W) * W * sizeof(double));
        for (int s = 0; s < p.sweeps; ++s)
            sweep(s).fill(p, s, channel, lags + (chunk - 1) * W, sweep(s).from_end ? -W : W);
        if (p.skip) lags[(chunk - 1) * W] += p.skip[channel];
        for (int64_t i = 0; i < count; i += W) {
            double sums[W];
            sum_rows<double>(lags + i * W, sums);
            for (int64_t j = i; j < std::min(i + W, count); ++j)
                kernel[j] = settled<T>(sums[j - i]);
        }
    }
};

}  // namespace ssno::SSNO_ISA
