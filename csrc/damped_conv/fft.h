// SPDX-License-Identifier: MIT
// Fourier transforms of power-of-two lengths. A signal is z[step][part][lane]; each lane is a
// transform of its own, and so nothing is shuffled. The spectrum comes in bit-reversed order.
#pragma once

#include "damped_conv/modes.h"

namespace ssno::SSNO_ISA {

// exp(-2 pi i k / order) in double precision: the product of two small tables
class Roots {
  public:
    explicit Roots(int64_t order) : order_(order), coarse_(order / FINE + 1), fine_(FINE) {
        for (int64_t i = 0; i <= order / FINE; ++i) coarse_[i] = exact(i * FINE);
        for (int64_t i = 0; i < FINE; ++i) fine_[i] = exact(i);
    }
    int64_t order() const { return order_; }
    Complex operator()(int64_t k) const {
        k &= order_ - 1;
        return coarse_[k / FINE] * fine_[k % FINE];
    }

  private:
    static constexpr int64_t FINE = 64;
    Complex exact(int64_t k) const {
        const double phase =
            -6.283185307179586476925 * static_cast<double>(k) / static_cast<double>(order_);
        return {__builtin_cos(phase), __builtin_sin(phase)};
    }
    int64_t order_;
    Buffer<Complex> coarse_, fine_;
};

template <class T>
struct Fft {
    static constexpr int W = Lanes<T>::W;
    int64_t n;
    Buffer<T> roots;  // for each level n, n / 4, ...: w^k, w^2k, w^3k for k < level / 4

    Fft(int64_t length, const Roots& of) : n(length), roots(2 * length + 8) {
        const int64_t unit = of.order() / n;
        T* to = roots;
        for (int64_t level = n; level >= 4; level /= 4)
            for (int64_t k = 0; k < level / 4; ++k)
                for (int64_t power = 1; power <= 3; ++power) {
                    const Complex w = of(k * power * (n / level) * unit);
                    *to++ = static_cast<T>(w.re);
                    *to++ = static_cast<T>(w.im);
                }
    }

    // Weights (n, 2) make the first stage read real samples x w, the last one write Re(z conj(w)).
    template <bool Weighted>
    static void forward_stage(T* z, int64_t level, const T* root, const T* weights) {
        const int64_t q = level / 4 * 2 * W;
        auto read = [&](int64_t k, int64_t part) {
            T* at = z + k * 2 * W + part * q;
            if constexpr (!Weighted) return Point<T>::load(at);
            const T* w = weights + 2 * (k + part * (level / 4));
            const Vec<T> x = load<T>(at);
            return Point<T>{w[0] * x, w[1] * x};
        };
        for (int64_t k = 0; k < level / 4; ++k, root += 6) {
            const Point<T> a = read(k, 0), b = read(k, 1), c = read(k, 2), d = read(k, 3);
            const Point<T> s = a + c, t = b + d, u = a - c, v = (b - d).by_i();
            T* at = z + k * 2 * W;
            (s + t).store(at);
            (s - t).by(root + 2).store(at + q);
            (u - v).by(root).store(at + 2 * q);
            (u + v).by(root + 4).store(at + 3 * q);
        }
    }
    template <bool Weighted>
    static void inverse_stage(T* z, int64_t level, const T* root, const T* weights) {
        const int64_t q = level / 4 * 2 * W;
        auto write = [&](int64_t k, int64_t part, const Point<T>& x) {
            T* at = z + k * 2 * W + part * q;
            if constexpr (!Weighted) return x.store(at);
            const T* w = weights + 2 * (k + part * (level / 4));
            store<T>(at, w[0] * x.re + w[1] * x.im);
        };
        for (int64_t k = 0; k < level / 4; ++k, root += 6) {
            const T* at = z + k * 2 * W;
            const Point<T> a = Point<T>::load(at), b = Point<T>::load(at + q).by_conj(root + 2),
                           c = Point<T>::load(at + 2 * q).by_conj(root),
                           d = Point<T>::load(at + 3 * q).by_conj(root + 4);
            const Point<T> s = a + b, t = a - b, u = c + d, v = (c - d).by_i();
            write(k, 0, s + u);
            write(k, 1, t + v);
            write(k, 2, s - u);
            write(k, 3, t - v);
        }
    }
    static void pair_stage(T* z) {
        const Point<T> a = Point<T>::load(z), b = Point<T>::load(z + 2 * W);
        (a + b).store(z);
        (a - b).store(z + 2 * W);
    }

    // All stages of levels up to `level`, of one block
    static void forward(T* z, int64_t level, const T* root) {
        if (level == 2) pair_stage(z);
        if (level < 4) return;
        forward_stage<false>(z, level, root, nullptr);
        for (int part = 0; part < 4; ++part)
            forward(z + part * (level / 4) * 2 * W, level / 4, root + level / 4 * 6);
    }
    static void inverse(T* z, int64_t level, const T* root) {
        if (level == 2) pair_stage(z);
        if (level < 4) return;
        for (int part = 0; part < 4; ++part)
            inverse(z + part * (level / 4) * 2 * W, level / 4, root + level / 4 * 6);
        inverse_stage<false>(z, level, root, nullptr);
    }
    void forward(T* z) const { forward(z, n, roots); }
    void inverse(T* z) const { inverse(z, n, roots); }

    // Transform Count signals, call leaf(numbers, first step) on the spectra, 4 or 8 steps at a
    // time, and transform the last signal back if `Back`; block by block, within the cache.
    template <int Count, bool Back, class Leaf>
    void through(T* const (&z)[Count], const T* weights, const T* inverse_weights,
                 const Leaf& leaf) const {
        for (T* signal : z) forward_stage<true>(signal, n, roots, weights);
        quarters<Count, Back>(z, n, roots, 0, leaf);
        if (Back) inverse_stage<true>(z[Count - 1], n, roots, inverse_weights);
    }

  private:
    template <int Count>
    struct Signals {
        T* z[Count];
        Signals(T* const (&from)[Count], int64_t step) {
            for (int i = 0; i < Count; ++i) z[i] = from[i] + step * 2 * W;
        }
    };

    template <int Count, bool Back, class Leaf>
    static void quarters(T* const (&z)[Count], int64_t level, const T* root, int64_t first,
                         const Leaf& leaf) {
        const int64_t quarter = level / 4;
        root += quarter * 6;
        for (int64_t at = 0; at < level; at += quarter) {
            const Signals<Count> block(z, at);
            if (quarter == 8) {
                few<8, Count, Back>(block.z, root, first + at, leaf);
                continue;
            }
            for (T* signal : block.z) forward_stage<false>(signal, quarter, root, nullptr);
            if (quarter == 16) {
                for (int64_t i = 0; i < 16; i += 4)
                    few<4, Count, Back>(Signals<Count>(block.z, i).z, root, first + at + i, leaf);
            } else {
                quarters<Count, Back>(block.z, quarter, root, first + at, leaf);
            }
            if (Back) inverse_stage<false>(block.z[Count - 1], quarter, root, nullptr);
        }
    }

    // The last stages forward, the first ones back, in registers
    template <int N, int Count, bool Back, class Leaf>
    static SSNO_INLINE void few(T* const (&z)[Count], const T* root, int64_t first,
                                const Leaf& leaf) {
        Point<T> x[Count][N];
        for (int i = 0; i < Count; ++i) {
            for (int k = 0; k < N; ++k) x[i][k] = Point<T>::load(z[i] + k * 2 * W);
            few_forward<N>(x[i], root);
        }
        leaf(x, first);
        if (!Back) return;
        few_inverse<N>(x[Count - 1], root);
        for (int k = 0; k < N; ++k) x[Count - 1][k].store(z[Count - 1] + k * 2 * W);
    }
    template <int N>
    static SSNO_INLINE void few_forward(Point<T> (&x)[N], const T* root) {
        constexpr int Q = N / 4;
        for (int k = 0; k < Q; ++k) {
            const Point<T> s = x[k] + x[k + 2 * Q], t = x[k + Q] + x[k + 3 * Q];
            const Point<T> u = x[k] - x[k + 2 * Q], v = (x[k + Q] - x[k + 3 * Q]).by_i();
            x[k] = s + t;
            x[k + Q] = k ? (s - t).by(root + 8) : s - t;
            x[k + 2 * Q] = k ? (u - v).by(root + 6) : u - v;
            x[k + 3 * Q] = k ? (u + v).by(root + 10) : u + v;
        }
        for (int k = 0; k < N && Q == 2; k += 2) add_subtract(x[k], x[k + 1]);
    }
    template <int N>
    static SSNO_INLINE void few_inverse(Point<T> (&x)[N], const T* root) {
        constexpr int Q = N / 4;
        for (int k = 0; k < N && Q == 2; k += 2) add_subtract(x[k], x[k + 1]);
        for (int k = 0; k < Q; ++k) {
            const Point<T> a = x[k], b = k ? x[k + Q].by_conj(root + 8) : x[k + Q];
            const Point<T> c = k ? x[k + 2 * Q].by_conj(root + 6) : x[k + 2 * Q];
            const Point<T> d = k ? x[k + 3 * Q].by_conj(root + 10) : x[k + 3 * Q];
            const Point<T> s = a + b, t = a - b, u = c + d, v = (c - d).by_i();
            x[k] = s + u;
            x[k + Q] = t + v;
            x[k + 2 * Q] = s - u;
            x[k + 3 * Q] = t - v;
        }
    }
    static SSNO_INLINE void add_subtract(Point<T>& a, Point<T>& b) {
        const Point<T> sum = a + b;
        b = a - b;
        a = sum;
    }
};

}  // namespace ssno::SSNO_ISA
