// SPDX-License-Identifier: MIT
// The operator by Fourier transforms, where a channel has many rows to share its kernel's spectrum.
//
// With n >= L a power of two, lags -L < d < L are kept apart modulo z^2n = -1, and real sequences
// modulo that are complex ones modulo z^n = i: sample j + n is the imaginary part of number j, lag
// -d is minus sample 2n - d. Weighting number j by exp(i pi j / 2n) makes z^n = i an ordinary
// complex transform of length n. The transposed operator has the conjugate spectrum.
#pragma once

#include "damped_conv/kernel_lags.h"

namespace ssno::SSNO_ISA {

constexpr int64_t LEAST_LENGTH = 64;

inline int64_t transform_length(const Params& p) {
    int64_t n = LEAST_LENGTH;
    while (n < p.length) n *= 2;
    return n;
}

// Estimated cycles of one channel by sweeps and by transforms, as measured with vectors of 64
// bytes.
template <class T>
double cost_of_sweeps(const Params& p) {
    const Plan plan = make_plan(p, COLUMNS<T>, sizeof(T));
    const double states = static_cast<double>(2 * p.modes * p.sweeps);
    double steps = 0, each = 1.1 * static_cast<double>(plan.chunk) + 40, tables = 0.5;
    if (plan.has_states) {
        each += 15 + 1.1 * (plan.segments > 1 || p.periodic ? 3 : 2) * states;
        tables += 1.5;
    }
    for (int k = 0; k < plan.spans; ++k)
        steps += 2.0 * static_cast<double>(plan.span[k].tiles * plan.span[k].length);
    return steps * each + tables * static_cast<double>(plan.chunk) * states;
}
template <class T>
double cost_of_transforms(const Params& p) {
    const double n = static_cast<double>(transform_length(p));
    const double tiles = static_cast<double>((p.rows + Lanes<T>::W - 1) / Lanes<T>::W);
    double levels = 0;
    for (int64_t i = 1; i < transform_length(p); i *= 2) ++levels;
    const double kernel =
        3000 + 8 * n + static_cast<double>(p.modes * p.sweeps * (p.length / 4 + 140));
    return tiles * n * (6 * levels + 30) + kernel;
}

// Whether transforms serve better: they give no states, and their room must be small beside u's.
template <class T>
bool prefers_fourier(const Params& p) {
    if (p.initial_state.p || p.final_state.p || p.v_final_state.p || p.v_initial_state.p)
        return false;
    const int64_t room = 8 * transform_length(p) * Lanes<T>::W * sizeof(T);
    const int64_t whole = p.rows * p.channels * p.length * static_cast<int64_t>(sizeof(T));
    if (room > std::max(SMALL_BYTES, whole / 8)) return false;
    return p.length >= LEAST_LENGTH && cost_of_transforms<T>(p) < cost_of_sweeps<T>(p);
}

// Tables that all channels share
template <class T>
struct Transforms {
    static constexpr int W = Lanes<T>::W;
    const int64_t n;
    const Roots roots;
    const Fft<T> lanes;
    const SequenceFft<T> sequence;
    Buffer<T> weights, inverse_weights;  // (n, 2): exp(i pi j / 2n), and the same over n

    explicit Transforms(const Params& p)
        : n(transform_length(p)),
          roots(4 * n),
          lanes(n, roots),
          sequence(n, roots),
          weights(2 * n),
          inverse_weights(2 * n) {
        const double scale = 1.0 / static_cast<double>(n);
        for (int64_t j = 0; j < n; ++j) {
            const Complex w = conj(roots(j));
            weights[2 * j] = static_cast<T>(w.re);
            weights[2 * j + 1] = static_cast<T>(w.im);
            inverse_weights[2 * j] = static_cast<T>(scale * w.re);
            inverse_weights[2 * j + 1] = static_cast<T>(scale * w.im);
        }
    }
    // Place of the real part of number j of a sequence or spectrum; the imaginary part is W on.
    static int64_t at(int64_t j) { return j / W * 2 * W + j % W; }
};

// The spectrum of one channel's kernel, and its gradient
template <class T>
struct Spectrum {
    static constexpr int W = Lanes<T>::W;
    const Params& p;
    const Transforms<T>& of;
    KernelLags<T> kernel, gradient;
    Buffer<T> past, future;  // by lag
    Buffer<T> z;             // as SequenceFft has it

    Spectrum(const Params& params, const Transforms<T>& transforms, bool gradients)
        : p(params),
          of(transforms),
          kernel(p, false),
          gradient(p, gradients),
          past(p.length),
          future(p.length),
          z(of.sequence.room()) {
        std::memset(z, 0, of.sequence.room() * sizeof(T));
    }

    void make(int64_t channel) {
        const int64_t L = p.length, n = of.n;
        std::memset(past, 0, L * sizeof(T));
        std::memset(future, 0, L * sizeof(T));
        for (int s = 0; s < p.sweeps; ++s) {
            kernel.make(s, channel);
            T *own = p.from_end[s] ? future : past, *other = p.from_end[s] ? past : future;
            past[0] += kernel.lags[0];
            for (int64_t d = 1; d < L; ++d) own[d] += kernel.lags[d];
            for (int64_t d = 1; d < L && p.periodic; ++d) other[L - d] += kernel.lags[d];
        }
        if (p.skip) past[0] += static_cast<T>(p.skip[channel]);
        for (int64_t j = 0; j < n; ++j) {
            const T re = j < L ? past[j] : T(0);
            const T im = j > n - L && j > 0 ? -future[n - j] : T(0);
            const T* w = of.weights + 2 * j;
            T* to = z + of.at(j);
            to[0] = w[0] * re - w[1] * im;
            to[W] = w[0] * im + w[1] * re;
        }
        of.sequence.forward(z);
    }

    // From the spectrum (n, 2) of the correlation of v_y with u to the cotangents of the channel
    void differentiate(int64_t channel, const double* correlation) {
        const int64_t L = p.length, n = of.n;
        for (int64_t j = 0; j < n; ++j) {
            z[of.at(j)] = static_cast<T>(correlation[2 * j]);
            z[of.at(j) + W] = static_cast<T>(correlation[2 * j + 1]);
        }
        of.sequence.inverse(z);
        future[0] = 0;
        for (int64_t j = 0; j < n; ++j) {
            const T* w = of.inverse_weights + 2 * j;
            const T re = z[of.at(j)], im = z[of.at(j) + W];
            if (j < L) past[j] = w[0] * re + w[1] * im;
            if (j > n - L && j > 0) future[n - j] = -(w[0] * im - w[1] * re);
        }
        if (p.v_skip) p.v_skip[channel] = past[0];
        for (int s = 0; s < p.sweeps && (p.v_rate || p.v_coeff); ++s) {
            const T *own = p.from_end[s] ? future : past, *other = p.from_end[s] ? past : future;
            T* v_k = gradient.lags;
            std::memset(v_k, 0, gradient.rows * COLUMNS<T> * sizeof(T));
            v_k[0] = past[0];
            for (int64_t d = 1; d < L; ++d) v_k[d] = own[d] + (p.periodic ? other[L - d] : T(0));
            write(s, channel);
        }
    }

  private:
    void write(int sweep, int64_t channel) {
        const double L = static_cast<double>(p.length);
        auto store = [&](double* to, int64_t n, Complex conjugate) {
            if (!to) return;
            to += 2 * ((sweep * p.channels + channel) * p.modes + n);
            to[0] = conjugate.re;
            to[1] = -conjugate.im;
        };
        gradient.differentiate(sweep, channel);
        for (int64_t n = 0; n < p.modes; ++n) {
            const Complex closure = gradient.closure[n];
            const Complex v_coeff = 2.0 * gradient.total(n) * closure;
            Complex v_rate = 2.0 * gradient.gain[n] * gradient.total_slope(n);
            if (p.periodic) {  // the gain is coeff / (1 - lambda^L)
                const Mode m(p, sweep, channel, n);
                v_rate = v_rate + v_coeff * gradient.gain[n] * (L * decay_over(m.rate, L));
            }
            store(p.v_coeff, n, v_coeff);
            store(p.v_rate, n, v_rate);
        }
    }
};

// A tile of rows, one vector wide, and the room for its transform
template <class T>
struct RowTiles {
    static constexpr int W = Lanes<T>::W;
    Plan plan;

    explicit RowTiles(const Params& p) {
        plan.add(p, W, 1, p.length);
        const int64_t wanted = (TASKS + p.channels - 1) / std::max<int64_t>(1, p.channels);
        plan.groups = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, plan.tiles));
    }
    static void take(const Params& p, const Tile<T, W>& tile, const Array& a, T* z, int64_t n) {
        gather<T, W>(p, tile, a, z, 2 * W);
        for (int64_t t = p.length; t < n; ++t) std::memset(z + t * 2 * W, 0, W * sizeof(T));
    }
};

// The spectrum's numbers from `first` on times those of a signal, or their conjugates
template <class T, bool Conjugate, int N>
SSNO_INLINE void filter(const T* spectrum, int64_t first, Point<T> (&x)[N]) {
    constexpr int W = Lanes<T>::W;
    for (int i = 0; i < N; ++i) {
        const T* s = spectrum + Transforms<T>::at(first + i);
        const T number[2] = {s[0], s[W]};
        x[i] = Conjugate ? x[i].by_conj(number) : x[i].by(number);
    }
}

template <class T>
void apply_by_fourier(const Params& p, bool adjoint, const Array& in, const Array& out) {
    constexpr int W = Lanes<T>::W;
    const Transforms<T> transforms(p);
    const RowTiles<T> tiles(p);
    in_runs(p, p.channels * tiles.plan.groups, [&](int64_t begin, int64_t end) {
        Spectrum<T> spectrum(p, transforms, false);
        Buffer<T> z(transforms.n * 2 * W);
        const T* G = spectrum.z;
        over_groups(tiles.plan, begin, end,
                    [&](int64_t channel, int64_t, int64_t from, int64_t to) {
                        spectrum.make(channel);
                        for (int64_t index = from; index < to; ++index) {
                            const Tile<T, W> tile(p, tiles.plan, channel, index);
                            tiles.take(p, tile, in, z, transforms.n);
                            T* const signal[1] = {z};
                            transforms.lanes.template through<1, true>(
                                signal, transforms.weights, transforms.inverse_weights,
                                [&](auto& x, int64_t first) {
                                    adjoint ? filter<T, true>(G, first, x[0])
                                            : filter<T, false>(G, first, x[0]);
                                });
                            scatter<T, W>(p, tile, out, 0, p.length, z, 2 * W);
                        }
                    });
    });
}

// The spectrum of the correlation of v_y with u, (n, 2), summed over lanes and tiles
template <class T>
struct Correlation {
    static constexpr int W = Lanes<T>::W;
    double* sums;
    Vec<T> terms[W];  // real and imaginary parts in turn

    template <int N>
    SSNO_INLINE void add(const Point<T> (&u)[N], const Point<T> (&v)[N], int64_t first) {
        constexpr int TOGETHER = W < 2 * N ? W : 2 * N;
        for (int i = 0; i < 2 * N; i += TOGETHER) {
            Vec<T>* to = terms + 2 * first % W;
            for (int j = 0; j < TOGETHER; j += 2) {
                const Point<T> a = u[(i + j) / 2], b = v[(i + j) / 2];
                to[j] = b.re * a.re + b.im * a.im;
                to[j + 1] = b.im * a.re - b.re * a.im;
            }
            first += TOGETHER / 2;
            if (2 * first % W == 0) add_lanes(sums + 2 * first - W);
        }
    }

  private:
    void add_lanes(double* to) {
        T of_terms[W];
        store<T>(of_terms, sum_each<T>(terms));
        for (int j = 0; j < W; ++j) to[j] += of_terms[j];
    }
};

template <class T>
void differentiate_by_fourier(const Params& p) {
    constexpr int W = Lanes<T>::W;
    if (!(p.v_rate || p.v_coeff || p.v_skip)) return apply_by_fourier<T>(p, true, p.v_out, p.v_u);
    const Transforms<T> transforms(p);
    const RowTiles<T> tiles(p);
    const int64_t n = transforms.n, groups = tiles.plan.groups;
    const bool shared = groups > 1;
    Buffer<double> parts(shared ? p.channels * groups * 2 * n : 0);
    in_runs(p, p.channels * groups, [&](int64_t begin, int64_t end) {
        Spectrum<T> spectrum(p, transforms, !shared);
        Buffer<T> zu(n * 2 * W), zv(n * 2 * W);
        Buffer<double> own(shared ? 0 : 2 * n);
        const T* G = spectrum.z;
        over_groups(tiles.plan, begin, end,
                    [&](int64_t channel, int64_t group, int64_t from, int64_t to) {
                        double* sums = shared ? parts + (channel * groups + group) * 2 * n : own;
                        std::memset(sums, 0, 2 * n * sizeof(double));
                        Correlation<T> correlation{sums, {}};
                        if (p.v_u.p) spectrum.make(channel);
                        for (int64_t index = from; index < to; ++index) {
                            const Tile<T, W> tile(p, tiles.plan, channel, index);
                            tiles.take(p, tile, p.u, zu, n);
                            tiles.take(p, tile, p.v_out, zv, n);
                            T* const signals[2] = {zu, zv};
                            auto leaf = [&](auto& x, int64_t first) {
                                correlation.add(x[0], x[1], first);
                                if (p.v_u.p) filter<T, true>(G, first, x[1]);
                            };
                            if (p.v_u.p) {
                                transforms.lanes.template through<2, true>(
                                    signals, transforms.weights, transforms.inverse_weights, leaf);
                                scatter<T, W>(p, tile, p.v_u, 0, p.length, zv, 2 * W);
                            } else {
                                transforms.lanes.template through<2, false>(
                                    signals, transforms.weights, transforms.inverse_weights, leaf);
                            }
                        }
                        if (!shared) spectrum.differentiate(channel, own);
                    });
    });
    if (!shared) return;
    in_runs(p, p.channels, [&](int64_t begin, int64_t end) {
        Spectrum<T> spectrum(p, transforms, true);
        for (int64_t channel = begin; channel < end; ++channel) {
            double* total = parts + channel * groups * 2 * n;
            for (int64_t g = 1; g < groups; ++g)
                for (int64_t i = 0; i < 2 * n; ++i) total[i] += total[g * 2 * n + i];
            spectrum.differentiate(channel, total);
        }
    });
}

}  // namespace ssno::SSNO_ISA
