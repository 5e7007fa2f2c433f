// SPDX-License-Identifier: MIT
// The convolution or the transposed one: (D2) to (D4), or (D6), (D7) and (D9).
#pragma once

#include "damped_conv/mma_cuda.h"
#include "damped_conv/tile_cuda.h"

namespace ssno::damped_conv {

struct Apply {
    Array x, out;
    StateArray enter, leave;
    bool transposed = false;
};

template <class K>
struct ApplyPlaces : Places<K> {
    using P = Places<K>;
    static constexpr int LAGS = P::END;
    static constexpr int X = align16(LAGS + Toeplitz<typename K::T, K::STEPS>::SIZE * P::ELEMENT);
    static constexpr int PANEL = X + K::STEPS * K::PITCH * P::ELEMENT;
    static constexpr int IN = PANEL + NUMBERS * K::PITCH * P::ELEMENT;
    static constexpr int OUT = IN + K::STEPS * K::PITCH_IN * P::ELEMENT;
    static constexpr int BYTES = OUT + NUMBERS * K::PITCH_OUT * P::ELEMENT;
};

template <class K>
class Applied {
  public:
    using T = typename K::T;
    using P = ApplyPlaces<K>;
    static constexpr int TABLE = NUMBERS * K::STEPS;

    SSNO_DEVICE Applied(const Task& task, const Apply& a) : task_(task), a_(a), tile_(task) {}

    SSNO_DEVICE void run() {
        tile_.find(task_, a_.x, of_x(), sizes());
        tile_.find(task_, a_.out, of_out(), sizes());
        load_lags();
        sync_block();
        const int from_last = a_.transposed ? task_.forward : task_.backward;
        const int from_first = a_.transposed ? task_.backward : task_.forward;
        load_samples<K, false>(task_, a_.x, of_x(), sizes(), x());
        sync_block();
        if (from_last >= 0) walk(from_last, true);
        if (task_.shift && a_.out.p && from_last >= 0) move_to_start();
        if (a_.out.p) {
            const int stop = task_.shift ? K::STEPS : task_.stop;
            y_.add(Rows<T, K::PITCH>{x()}, Toeplitz<T, K::STEPS>{lags()}, 0, stop);
        }
        if (task_.shift && from_first >= 0) {
            sync_block();
            load_samples<K, true>(task_, a_.x, of_x(), sizes(), x());
            sync_block();
        }
        if (from_first >= 0) walk(from_first, false);
        if (a_.out.p) store();
    }

  private:
    SSNO_DEVICE Shared<int64_t> of_x() const { return shared<int64_t>(P::BASES); }
    SSNO_DEVICE Shared<int64_t> of_out() const { return of_x() + K::COLUMNS; }
    SSNO_DEVICE Shared<int> sizes() const { return shared<int>(P::SIZES); }
    SSNO_DEVICE Shared<T> lags() const { return shared<T>(P::LAGS); }
    SSNO_DEVICE Shared<T> x() const { return shared<T>(P::X); }
    SSNO_DEVICE Shared<T> panel() const { return shared<T>(P::PANEL); }
    SSNO_DEVICE Shared<T> in() const { return shared<T>(P::IN); }
    SSNO_DEVICE Shared<T> out() const { return shared<T>(P::OUT); }

    // The transposed matrix has the lags the other way round.
    SSNO_DEVICE void load_lags() const {
        using Lags = Toeplitz<T, K::STEPS>;
        constexpr int COUNT = 2 * K::STEPS - 1;
        const T* from = static_cast<const T*>(task_.table.lags) + tile_.channel * 2 * K::STEPS;
#pragma unroll 1
        for (int i = thread(); i < Lags::SIZE; i += THREADS) {
            const int lag = i / Lags::COPY + i % Lags::COPY;
            const int at = a_.transposed ? COUNT - 1 - lag : lag;
            lags().store(i, lag < COUNT ? from[at] : T(0));
        }
    }

    SSNO_DEVICE void copy_in(int sweep, int64_t block) const {
        if (block < task_.blocks)
            copy_table<K::STEPS, NUMBERS, K::PITCH_IN>(
                table(a_.transposed ? task_.table.in_gain : task_.table.in_power, sweep, block),
                in());
        cuda::copy_commit();
    }
    SSNO_DEVICE void copy_out(int sweep, int64_t block) const {
        if (block < task_.blocks && a_.out.p)
            copy_table<NUMBERS, K::STEPS, K::PITCH_OUT>(
                table(a_.transposed ? task_.table.out_power : task_.table.out_gain, sweep, block),
                out());
        cuda::copy_commit();
    }
    SSNO_DEVICE const T* table(const void* p, int sweep, int64_t block) const {
        const int64_t first = sweep * task_.channels + tile_.channel;
        return static_cast<const T*>(p) + (first * task_.blocks + block) * TABLE;
    }

    // Adds to y, if it is wanted, what comes through the states of a walk.
    SSNO_DEVICE void walk(int sweep, bool from_last) {
        const Walk<K, true> states{task_, tile_, &a_.enter, &a_.leave, sweep, from_last};
        const bool all = task_.shift && !from_last;  // samples are late
        const Rows<T, K::PITCH> samples{x(), from_last ? 0 : K::STEPS - 1, from_last ? 1 : -1};
        const int begin = from_last || all ? 0 : K::STEPS - task_.stop;
        const int end = from_last ? task_.stop : K::STEPS;
        copy_in(sweep, 0);
        copy_out(sweep, 0);
#pragma unroll 1
        for (int64_t b = 0; b < task_.blocks; ++b) {
            cuda::copy_wait<1>();
            sync_block();
            Product<K, K::COLUMNS, NUMBERS> e;
            e.add(samples, Rows<T, K::PITCH_IN>{in()}, begin, end);
            e.pairs([&](int c, int number, T re, T im) {
                panel().store(number * K::PITCH + c, re);
                panel().store((number + 1) * K::PITCH + c, im);
            });
            sync_block();
            copy_in(sweep, b + 1);
#pragma unroll 1
            for (int item = thread(); item < MODES * task_.lines; item += THREADS)
                states.run(panel(), b, item);
            cuda::copy_wait<1>();
            sync_block();
            if (a_.out.p)
                y_.add(Rows<T, K::PITCH>{panel()}, Rows<T, K::PITCH_OUT>{out()}, 0, NUMBERS);
            sync_block();
            copy_out(sweep, b + 1);
        }
        cuda::copy_wait<0>();
    }

    // Short chunks were read out late.
    SSNO_DEVICE void move_to_start() {
        sync_block();
        y_.pairs([&](int c, int t, T first, T second) {
            x().store(t * K::PITCH + c, first);
            x().store((t + 1) * K::PITCH + c, second);
        });
        sync_block();
        y_.pairs([&](int c, int t, T& first, T& second) {
            const int size = sizes().load(c), from = t + K::STEPS - size;
            first = t < size ? x().load(from * K::PITCH + c) : T(0);
            second = t + 1 < size ? x().load((from + 1) * K::PITCH + c) : T(0);
        });
        sync_block();
        load_samples<K, false>(task_, a_.x, of_x(), sizes(), x());
        sync_block();
    }

    SSNO_DEVICE void store() {
        sync_block();
        y_.pairs([&](int c, int t, T first, T second) {
            x().store(t * K::PITCH + c, first);
            x().store((t + 1) * K::PITCH + c, second);
        });
        sync_block();
        store_samples<K>(task_, a_.out, of_out(), sizes(), x());
    }

    const Task& task_;
    const Apply& a_;
    const Tile<K> tile_;
    Product<K, K::COLUMNS, K::STEPS> y_;
};

template <class K>
SSNO_KERNEL(THREADS, sizeof(typename K::T) == 8 ? 3 : 4)
apply_kernel(SSNO_CONSTANT Task task, SSNO_CONSTANT Apply a) {
    if (block_number() >= task.tiles() * task.channels) return;
    Applied<K>(task, a).run();
}

// Replaces what each segment adds to the state by the state before it, in double precision; a
// thread has a mode of a line. `ends`: (segment, S, line, channel, mode, 2)
struct Carry {
    void* ends;
    StateArray enter, leave;
    const double* rate;
    bool transposed, periodic;
    double span, rest;  // samples of a segment, of the last one
};

template <class K>
struct Segments {
    using T = typename K::T;
    T* p;
    int64_t stride, count;
    bool from_last;
    Complex whole, rest;

    // The state after all segments
    template <bool KEEP>
    SSNO_DEVICE Complex run(Complex h) const {
#pragma unroll 4
        for (int64_t i = 0; i < count; ++i) {
            const int64_t k = from_last ? count - 1 - i : i;
            T* at = p + k * stride;
            const Complex end{static_cast<double>(at[0]), static_cast<double>(at[1])};
            if (KEEP) {
                at[0] = static_cast<T>(h.re);
                at[1] = static_cast<T>(h.im);
            }
            h = (k == count - 1 ? rest : whole) * h + end;
        }
        return h;
    }
};

template <class K>
SSNO_KERNEL(THREADS, 4)
carry_kernel(SSNO_CONSTANT Task task, SSNO_CONSTANT Carry c) {
    using T = typename K::T;
    const int64_t states = task.sweeps * task.rows * task.channels * task.modes;
    const int64_t i = block_number() * THREADS + thread();
    if (i >= states) return;
    const int64_t mode = i % task.modes, channel = i / task.modes % task.channels;
    const int64_t lines = i / task.modes / task.channels, row = lines % task.rows;
    const int sweep = static_cast<int>(lines / task.rows);
    const Rate rate(c.rate + 2 * ((sweep * task.channels + channel) * task.modes + mode));
    const auto place = [&](const StateArray& a) {
        return sweep * a.sweep + channel * a.channel + row_offset(task, a, row) + mode * a.step;
    };
    const Segments<K> segments{
        static_cast<T*>(c.ends) + 2 * i,          2 * states,         task.segments,
        (sweep == task.backward) != c.transposed, rate.power(c.span), rate.power(c.rest)};
    Complex h;
    if (c.enter.p) {
        const T* from = static_cast<const T*>(c.enter.p) + place(c.enter);
        h = {from[0], c.enter.conjugate ? -from[c.enter.part] : from[c.enter.part]};
    }
    if (c.periodic)
        h = rate.closed(static_cast<double>(task.length)) *
            (h + segments.template run<false>(Complex{}));
    h = segments.template run<true>(h);
    if (c.leave.p) {
        T* to = static_cast<T*>(c.leave.p) + place(c.leave);
        to[0] = static_cast<T>(h.re);
        to[c.leave.part] = static_cast<T>(c.leave.conjugate ? -h.im : h.im);
    }
}

}  // namespace ssno::damped_conv
