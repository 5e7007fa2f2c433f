// SPDX-License-Identifier: MIT
// The cotangents of parameters (D8), from sums over the chunks of tiles; v_u and the cotangent of
// the initial state are the transposed convolution's (apply_cuda.h).
//
// With S the states before a chunk of l samples in the sweep's order, P those before it in the
// adjoint's (conjugates of cotangents, and so products without conj), e the steps yet to come in
// the chunk in the order of what it weighs, and m_d = sum_t v_t u_{t-d} within chunks,
//
//     conj(v_coeff) = 2 (lambda sum S w + sum_d m_d lambda^d)
//     conj(v_rate) = sum P (r' + l lambda^l S)
//                    + 2 coeff (lambda sum S (w + w') + sum_d d m_d lambda^d)
//
//     w = sum_e lambda^e v   w' = sum_e e lambda^e v   r = sum_e lambda^e u   r' = sum_e e lambda^e
//     u
//
// where sums without an index run over all chunks. The sums of each tile are written, and added up
// in double precision in an order that is always the same.
#pragma once

#include "damped_conv/mma_cuda.h"
#include "damped_conv/tile_cuda.h"

namespace ssno::damped_conv {

struct Sums {
    Array u, v;
    StateArray enter, v_enter;
    void* lags = nullptr;    // (tile, channel, 2 T): m_d at T - 1 + d; d < 0 of the backward sweep
    void* states = nullptr;  // (tile, channel, sweep, block, SUMS)
};

template <class K>
struct SumsPlaces : Places<K> {
    using P = Places<K>;
    static constexpr int SAMPLES = K::STEPS * K::PITCH * P::ELEMENT;
    static constexpr int PANEL_BYTES = NUMBERS * K::PITCH * P::ELEMENT;
    static constexpr int U = P::END, V = U + SAMPLES, PANEL_U = V + SAMPLES;
    static constexpr int PANEL_V = PANEL_U + PANEL_BYTES, IN = PANEL_V + PANEL_BYTES;
    static constexpr int BYTES = IN + K::STEPS * K::PITCH_IN * P::ELEMENT;
    // In the place of panels: the products of all pairs of samples, and sums of groups of rows
    static constexpr int PITCH_PRODUCTS = K::STEPS + 1;
    static constexpr int GROUPS = Product<K, K::COLUMNS, NUMBERS>::GROUPS;
    static_assert(K::STEPS * PITCH_PRODUCTS * P::ELEMENT <= 2 * PANEL_BYTES);
    static_assert(SUMS * (GROUPS + 1) * P::ELEMENT <= 2 * PANEL_BYTES);
};

template <class K>
class Summed {
  public:
    using T = typename K::T;
    using P = SumsPlaces<K>;

    SSNO_DEVICE Summed(const Task& task, const Sums& a) : task_(task), a_(a), tile_(task) {}

    SSNO_DEVICE void run() const {
        tile_.find(task_, a_.u, of_u(), sizes());
        tile_.find(task_, a_.v, of_v(), sizes());
        sync_block();
        load_samples<K, false, true>(task_, a_.u, of_u(), sizes(), u());
        load_samples<K, false, true>(task_, a_.v, of_v(), sizes(), v());
        sync_block();
        sum_lags();
        if (split() && !task_.shift) {
            round_samples<K>(u());
            round_samples<K>(v());
            sync_block();
        }
        for (int sweep = 0; sweep < task_.sweeps && task_.blocks > 0; ++sweep) {
            const bool last = sweep == task_.backward;
            if (task_.shift) load_anew(last);
#pragma unroll 1
            for (int64_t b = 0; b < task_.blocks; ++b) sum_states(sweep, last, b);
        }
    }

  private:
    // Whether tf32 does not hold the samples. m_d is of more of their digits: the sum over d that a
    // frequency's cotangent is has terms of both signs.
    SSNO_DEVICE bool split() const { return K::MMA && task_.dtype == Dtype::f32; }
    SSNO_DEVICE Shared<int64_t> of_u() const { return shared<int64_t>(P::BASES); }
    SSNO_DEVICE Shared<int64_t> of_v() const { return of_u() + K::COLUMNS; }
    SSNO_DEVICE Shared<int> sizes() const { return shared<int>(P::SIZES); }
    SSNO_DEVICE Shared<T> u() const { return shared<T>(P::U); }
    SSNO_DEVICE Shared<T> v() const { return shared<T>(P::V); }
    SSNO_DEVICE Shared<T> panel_u() const { return shared<T>(P::PANEL_U); }
    SSNO_DEVICE Shared<T> panel_v() const { return shared<T>(P::PANEL_V); }
    SSNO_DEVICE Shared<T> in() const { return shared<T>(P::IN); }
    SSNO_DEVICE int64_t tile_of_channel() const {
        return tile_.number * task_.channels + tile_.channel;
    }

    // What a sweep from the last sample takes in late are those of v, else those of u.
    SSNO_DEVICE void load_anew(bool last) const {
        sync_block();
        if (last) {
            load_samples<K, false>(task_, a_.u, of_u(), sizes(), u());
            load_samples<K, true>(task_, a_.v, of_v(), sizes(), v());
        } else {
            load_samples<K, true>(task_, a_.u, of_u(), sizes(), u());
            load_samples<K, false>(task_, a_.v, of_v(), sizes(), v());
        }
        sync_block();
    }

    // m_d of both sweeps: sums over the diagonals of the products of v and u.
    SSNO_DEVICE void sum_lags() const {
        const Shared<T> products = panel_u();
        inner_product<K>(v(), u(), split(), [&](int i, int j, T sum) {
            products.store(i * P::PITCH_PRODUCTS + j, sum);
        });
        sync_block();
        T* to = static_cast<T*>(a_.lags) + tile_of_channel() * 2 * K::STEPS;
        for (int i = thread(); i < 2 * K::STEPS - 1; i += THREADS) {
            const int d = i - K::STEPS + 1, begin = d > 0 ? d : 0;
            const int end = d > 0 ? K::STEPS : K::STEPS + d;
            T sum = 0;
#pragma unroll 4
            for (int t = begin; t < end; ++t) sum += products.load(t * P::PITCH_PRODUCTS + t - d);
            to[i] = sum;
        }
        sync_block();
    }

    using Numbers = Product<K, K::COLUMNS, NUMBERS>;

    // r and r', or w and w', of a block of modes
    SSNO_DEVICE void take_in(Shared<T> x, bool from_last, Numbers& sum, Numbers& slope) const {
        const Rows<T, K::PITCH> samples{x, from_last ? 0 : K::STEPS - 1, from_last ? 1 : -1};
        const int begin = from_last || task_.shift ? 0 : K::STEPS - task_.stop;
        const int end = from_last ? task_.stop : K::STEPS;
        sum.add(samples, Rows<T, K::PITCH_IN>{in()}, begin, end, slope);
    }

    // sum S w, sum S w' and sum P (r' + l lambda^l S)
    SSNO_DEVICE void sum_states(int sweep, bool last, int64_t block) const {
        const int64_t first = (sweep * task_.channels + tile_.channel) * task_.blocks + block;
        copy_table<K::STEPS, NUMBERS, K::PITCH_IN>(
            static_cast<const T*>(task_.table.in_power) + first * NUMBERS * K::STEPS, in());
        cuda::copy_commit();
        cuda::copy_wait<0>();
        sync_block();
        Numbers r, r_slope, w, w_slope;
        take_in(u(), last, r, r_slope);
        r.pairs([&](int c, int number, T re, T im) {
            panel_u().store(number * K::PITCH + c, re);
            panel_u().store((number + 1) * K::PITCH + c, im);
        });
        take_in(v(), !last, w, w_slope);
        const double* decays = task_.table.decays + first * MODES * DECAYS;
        const int64_t modes = task_.modes - block * MODES;
        w.pairs([&](int c, int number, T re, T im) {
            if (number / 2 < modes)
                Factor<T, false>(decays + number / 2 * DECAYS + 2 * GAIN).apply(re, im, 0, 0);
            panel_v().store(number * K::PITCH + c, re);
            panel_v().store((number + 1) * K::PITCH + c, im);
        });
        sync_block();
        const int items = MODES * task_.lines;
#pragma unroll 1
        for (int item = thread(); item < 2 * items; item += THREADS) {
            const bool forth = item < items;
            const Walk<K, false> walk{task_,   tile_, forth ? &a_.enter : &a_.v_enter,
                                      nullptr, sweep, last == forth};
            walk.run(forth ? panel_u() : panel_v(), block, item % items);
        }
        sync_block();
        reduce(sweep, block, decays, modes, r_slope, w, w_slope);
    }

    // Over this tile's chunks: each thread over its own, then over groups of them.
    SSNO_DEVICE void reduce(int sweep, int64_t block, const double* decays, int64_t modes,
                            const Numbers& r_slope, const Numbers& w,
                            const Numbers& w_slope) const {
        constexpr int GROUPS = Numbers::GROUPS, PITCH = GROUPS + 1;
        T held[Numbers::PAIRS][6];
        Numbers::template column_sums<6>(
            [&](int j, int i, int c, int number, T(&sums)[6]) {
                const Pair s = at(panel_u(), number, c), p = at(panel_v(), number, c);
                const int size = sizes().load(c);
                const bool whole = size == K::STEPS, there = number / 2 < modes && size > 0;
                const double* decay = decays + number / 2 * DECAYS + 2 * (whole ? WHOLE : REST);
                const Pair d{there ? static_cast<T>(decay[0]) : T(0),
                             there ? static_cast<T>(decay[1]) : T(0)};
                const Pair over = d * s;
                const Pair r{r_slope.re(j, i) + size * over.re, r_slope.im(j, i) + size * over.im};
                add(sums, s * Pair{w.re(j, i), w.im(j, i)});
                add(sums + 2, s * Pair{w_slope.re(j, i), w_slope.im(j, i)});
                add(sums + 4, p * r);
            },
            held);
        sync_block();
        const Shared<T> parts = panel_u();
        Numbers::each_sum([&](int j, int number, int group) {
#pragma unroll
            for (int i = 0; i < 6; ++i)
                parts.store((i / 2 * NUMBERS + number + i % 2) * PITCH + group, held[j][i]);
        });
        sync_block();
        const int64_t all = task_.sweeps * task_.blocks;  // of a channel of a tile
        T* to = static_cast<T*>(a_.states) +
                (tile_of_channel() * all + sweep * task_.blocks + block) * SUMS;
        if (thread() < SUMS) {
            T sum = 0;
#pragma unroll
            for (int i = 0; i < GROUPS; ++i) sum += parts.load(thread() * PITCH + i);
            to[thread()] = sum;
        }
        sync_block();
    }

    struct Pair {
        T re, im;
        SSNO_DEVICE Pair operator*(Pair o) const {
            return {re * o.re - im * o.im, re * o.im + im * o.re};
        }
    };
    SSNO_DEVICE static Pair at(Shared<T> panel, int number, int c) {
        return {panel.load(number * K::PITCH + c), panel.load((number + 1) * K::PITCH + c)};
    }
    SSNO_DEVICE static void add(T* to, Pair x) {
        to[0] += x.re;
        to[1] += x.im;
    }

    const Task& task_;
    const Sums& a_;
    const Tile<K> tile_;
};

template <class K>
SSNO_KERNEL(THREADS, 2)
sums_kernel(SSNO_CONSTANT Task task, SSNO_CONSTANT Sums a) {
    if (block_number() >= task.tiles() * task.channels) return;
    Summed<K>(task, a).run();
}

struct Reduction {
    const void *lags, *states, *coeff;
    const double* rate;
    void *v_rate, *v_coeff, *v_skip;
};

constexpr int LANES = 32, PLANES = 8;

// Sums over tiles of `count` numbers of each, `by` apart.
template <class T>
SSNO_DEVICE void total(const T* p, int by, int count, int64_t stride, int64_t tiles,
                       Shared<double> parts, Shared<double> to) {
    const int lane = thread() % LANES, plane = thread() / LANES;
#pragma unroll 1
    for (int i = lane; i < ceil_div(count, LANES) * LANES; i += LANES) {
        double sum = 0;
        if (i < count)
#pragma unroll 4
            for (int64_t tile = plane; tile < tiles; tile += PLANES)
                sum += static_cast<double>(p[tile * stride + i * by]);
        parts.store(thread(), sum);
        sync_block();
        if (plane == 0 && i < count) {
            for (int j = 1; j < PLANES; ++j) sum += parts.load(j * LANES + lane);
            to.store(i, sum);
        }
        sync_block();
    }
}

// (D8) and v_D of a block of modes of a channel, of one sweep.
template <class K>
SSNO_KERNEL(LANES* PLANES, 1)
reduce_kernel(SSNO_CONSTANT Task task, SSNO_CONSTANT Reduction r) {
    using T = typename K::T;
    const int64_t all = task.sweeps * task.all_blocks;
    const int64_t channel = block_number() / all, which = block_number() % all;
    if (channel >= task.channels) return;
    const int sweep = static_cast<int>(which / task.all_blocks);
    const Shared<double> parts = shared<double>(0), m = parts + LANES * PLANES;
    const Shared<double> sums = m + K::STEPS;
    total(static_cast<const T*>(r.lags) + channel * 2 * K::STEPS + K::STEPS - 1,
          sweep == task.backward ? -1 : 1, K::STEPS, task.channels * 2 * K::STEPS, task.tiles(),
          parts, m);
    const int64_t of_tile = task.blocks > 0 ? all * SUMS : 0;
    total(static_cast<const T*>(r.states) + channel * of_tile + which * SUMS, 1, SUMS,
          task.channels * of_tile, task.blocks > 0 ? task.tiles() : 0, parts, sums);
    if (thread() == 0 && which == 0 && r.v_skip)
        static_cast<T*>(r.v_skip)[channel] = static_cast<T>(m.load(0));
    const int64_t mode = which % task.all_blocks * MODES + thread();
    if (thread() >= MODES || mode >= task.modes) return;
    const int64_t at = 2 * ((sweep * task.channels + channel) * task.modes + mode);
    const Complex lambda = Rate(r.rate + at).power(1);
    Complex z{1, 0}, near, slope;
    for (int d = 0; d < K::STEPS; ++d) {
        near = near + m.load(d) * z;
        slope = slope + d * m.load(d) * z;
        z = z * lambda;
    }
    const auto of = [&](int i) {
        const int k = i * NUMBERS + 2 * thread();
        return Complex{sums.load(k), sums.load(k + 1)};
    };
    if (r.v_coeff) {
        const Complex v = 2.0 * (lambda * of(0) + near);
        T* to = static_cast<T*>(r.v_coeff) + at;
        to[0] = static_cast<T>(v.re);
        to[1] = static_cast<T>(-v.im);
    }
    if (r.v_rate) {
        const T* c = static_cast<const T*>(r.coeff) + at;
        const Complex twice{2.0 * c[0], 2.0 * c[1]};
        const Complex v = of(2) + twice * (lambda * (of(0) + of(1)) + slope);
        double* to = static_cast<double*>(r.v_rate) + at;
        to[0] = v.re;
        to[1] = -v.im;
    }
}

}  // namespace ssno::damped_conv
