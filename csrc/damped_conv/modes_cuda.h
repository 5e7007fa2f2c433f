// SPDX-License-Identifier: MIT
// Powers of lambda in double precision, the tables made of them, and the kernel's first lags.
#pragma once

#include <cmath>

#include "damped_conv/plan_cuda.h"

namespace ssno::damped_conv {

using cuda::thread;

struct Complex {
    double re = 0, im = 0;
};
SSNO_DEVICE Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
SSNO_DEVICE Complex operator*(Complex a, Complex b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
SSNO_DEVICE Complex operator*(double s, Complex a) { return {s * a.re, s * a.im}; }

// Cosine and sine of turns, by their series below an eighth; the library's would take stack memory
// for phases that do not occur.
SSNO_DEVICE Complex cos_sin(double turns) {
    const double quarters = floor(4 * turns + 0.5);
    const double r = (turns - 0.25 * quarters) * 6.283185307179586, q = r * r;
    double c = 1, s = 1;
#pragma unroll
    for (int m = 16; m > 0; m -= 2) {
        c = 1 - c * q * (1.0 / ((m - 1) * m));
        s = 1 - s * q * (1.0 / (m * (m + 1)));
    }
    s *= r;
    const int i = static_cast<int>(quarters - 4 * floor(0.25 * quarters));
    const double x = i & 1 ? s : c, y = i & 1 ? c : s;
    return {i == 1 || i == 2 ? -x : x, i >= 2 ? -y : y};
}

// The logarithm of lambda. Whole turns a step do not count, since steps are whole numbers; without
// them, the rounding of a phase is that of a number below 1/2.
struct Rate {
    double re = 0, turns = 0;

    SSNO_DEVICE Rate(const double* p) {
        re = p[0] < -1e300 ? -1e300 : p[0];  // an infinite damping times 0 steps; leaves NaN
        turns = p[1] * (1 / 6.283185307179586);
        turns -= floor(turns + 0.5);
    }
    // lambda^steps
    SSNO_DEVICE Complex power(double steps) const {
        return exp(re * steps) * cos_sin(turns * steps);
    }
    // 1 / (1 - lambda^steps), without cancellation
    SSNO_DEVICE Complex closed(double steps) const {
        const double magnitude = exp(re * steps), phase = turns * steps;
        const double half = cos_sin(0.5 * phase).im;
        const Complex d{2 * half * half * magnitude - expm1(re * steps),
                        -magnitude * cos_sin(phase).im};
        const double norm = d.re * d.re + d.im * d.im;
        return {d.re / norm, -d.im / norm};
    }
};

struct TableTask {
    const double* rate;
    const void *coeff, *skip;
    int64_t skip_stride;
};

template <class K>
SSNO_DEVICE typename K::T rounded(typename K::T x) {
    if constexpr (K::MMA)
        return cuda::round_tf32(x);
    else
        return x;
}

constexpr int PARTS = 16;  // of a chunk's steps, each a thread's of a mode

template <class K>
struct TableWriter {
    using T = typename K::T;
    T *in, *out;  // null if not wanted

    SSNO_DEVICE TableWriter(void* in_, void* out_, int64_t block)
        : in(in_ ? static_cast<T*>(in_) + block * NUMBERS * K::STEPS : nullptr),
          out(out_ ? static_cast<T*>(out_) + block * NUMBERS * K::STEPS : nullptr) {}
    // Of step e and mode n; to samples in their order or, where the walk is from the last, reversed
    SSNO_DEVICE void put(int e, int n, Complex z, bool from_last) const {
        const T re = rounded<K>(static_cast<T>(z.re)), im = rounded<K>(static_cast<T>(z.im));
        if (in) {
            in[e * NUMBERS + 2 * n] = re;
            in[e * NUMBERS + 2 * n + 1] = im;
        }
        if (out) {
            const int j = from_last ? K::STEPS - 1 - e : e;
            out[2 * n * K::STEPS + j] = re;
            out[(2 * n + 1) * K::STEPS + j] = -im;
        }
    }
};

// A mode's decays, by the thread of its first steps.
template <class K>
SSNO_DEVICE void put_decays(const Task& task, const Rate& rate, Complex gain, int64_t mode) {
    double* to = task.table.decays + mode * DECAYS;
    const auto put = [&](Which which, Complex z) {
        to[2 * which] = z.re;
        to[2 * which + 1] = z.im;
    };
    put(WHOLE, rate.power(K::STEPS));
    put(REST, rate.power(static_cast<double>((task.length - 1) % K::STEPS + 1)));
    put(CLOSED, task.periodic ? rate.closed(static_cast<double>(task.length)) : Complex{});
    put(GAIN, gain);
}

// All tables of one channel.
template <class K>
SSNO_KERNEL(MODES* PARTS, 2)
tables_kernel(SSNO_CONSTANT Task task, SSNO_CONSTANT TableTask from) {
    using T = typename K::T;
    constexpr int OWN = K::STEPS / PARTS;  // steps of a thread
    const int64_t channel = block_number();
    if (channel >= task.channels) return;
    const int n = thread() % MODES, part = thread() / MODES;
    double lag[2][OWN] = {};  // of the forward sweep and of the backward one
    for (int sweep = 0; sweep < task.sweeps; ++sweep)
        for (int64_t b = 0; b < task.all_blocks; ++b) {
            const int64_t mode = b * MODES + n, first = sweep * task.channels + channel;
            const bool exists = mode < task.modes;
            const int64_t at = 2 * (first * task.modes + (exists ? mode : 0));
            const Rate rate(from.rate + at);
            const T* c = static_cast<const T*>(from.coeff) + at;
            const double there = exists ? 2 : 0;
            const Complex lambda = rate.power(1);
            Complex z = rate.power(part * OWN), gain = {there * c[0], there * c[1]};
            if (!exists) z = gain = Complex{};
            const bool back = sweep == task.backward;
            const int64_t block = first * task.blocks + b;
            if (task.blocks > 0 && part == 0 && exists)
                put_decays<K>(task, rate, gain * lambda, block * MODES + n);
            const TableWriter<K> power(task.table.in_power, task.table.out_power, block),
                gains(task.table.in_gain, task.table.out_gain, block);
#pragma unroll
            for (int i = 0; i < OWN; ++i) {
                const Complex g = gain * z, next = z * lambda;
                lag[0][i] += back ? 0 : g.re;
                lag[1][i] += back ? g.re : 0;
                if (task.blocks > 0) {
                    power.put(part * OWN + i, n, z, !back);
                    gains.put(part * OWN + i, n, gain * next, back);
                }
                z = next;
            }
        }
    T* lags = static_cast<T*>(task.table.lags) + channel * 2 * K::STEPS + K::STEPS - 1;
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        const int e = part * OWN + i;
        double later = lag[0][i], earlier = lag[1][i];
        for (int mask = MODES / 2; mask > 0; mask /= 2) {
            later += cuda::shuffle_xor(later, mask);
            earlier += cuda::shuffle_xor(earlier, mask);
        }
        if (n > 0) continue;
        if (e == 0) {
            later += earlier;
            if (from.skip) later += static_cast<const T*>(from.skip)[channel * from.skip_stride];
            lags[K::STEPS] = 0;
        } else {
            lags[-e] = rounded<K>(static_cast<T>(earlier));
        }
        lags[e] = rounded<K>(static_cast<T>(later));
    }
}

}  // namespace ssno::damped_conv
