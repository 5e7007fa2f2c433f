// SPDX-License-Identifier: MIT
// A block's tile: where its chunks are, its samples in and out, and the states between its chunks.
// Column c of a tile is chunk c / lines of line c % lines.
#pragma once

#include "damped_conv/modes_cuda.h"
#include "damped_conv/product_cuda.h"

namespace ssno::damped_conv {

constexpr int align16(int bytes) { return (bytes + 15) / 16 * 16; }

// Places in shared memory, in bytes: where the chunks of two tensors begin, and their sizes.
template <class K>
struct Places {
    static constexpr int ELEMENT = sizeof(typename K::T);
    static constexpr int BASES = 0, SIZES = BASES + 2 * K::COLUMNS * 8;
    static constexpr int END = align16(SIZES + K::COLUMNS * 4);
};

template <class K>
class Tile {
  public:
    using T = typename K::T;
    int64_t channel, segment, number, row;  // `number`: of the tile; `row`: of its first line
    int samples, chunks;                    // of a line
    bool is_last;                           // segment

    SSNO_DEVICE explicit Tile(const Task& task) {
        const int64_t block = block_number();
        number = task.channels_first ? block / task.channels : block % task.tiles();
        channel = task.channels_first ? block % task.channels : block / task.tiles();
        row = number % task.groups * task.lines;
        segment = number / task.groups;
        constexpr int64_t SPAN = K::COLUMNS * K::STEPS;
        const int64_t left = task.length - segment * SPAN;
        is_last = left <= SPAN;
        samples = static_cast<int>(is_last ? left : SPAN);
        chunks = static_cast<int>(ceil_div(samples, K::STEPS));
    }
    // By the first threads: where the chunks begin in an array, and their sizes.
    SSNO_DEVICE void find(const Task& task, const Array& a, Shared<int64_t> base,
                          Shared<int> sizes) const {
#pragma unroll 1
        for (int c = thread(); c < K::COLUMNS; c += THREADS) {
            const int chunk = c / task.lines;
            const int64_t line = row + c % task.lines;
            const bool exists = chunk < chunks && line < task.rows;
            const int64_t start = (segment * K::COLUMNS + chunk) * K::STEPS;
            const int left = samples - chunk * K::STEPS;
            sizes.store(c, !exists ? 0 : left < K::STEPS ? left : K::STEPS);
            base.store(c, exists && a.p
                              ? channel * a.channel + row_offset(task, a, line) + start * a.step
                              : 0);
        }
    }
};

// The samples that a thread moves between memory and a tile, of a power of two of each chunk, 16 or
// more: along time the same one of many chunks, else some of the same chunk.
template <class K>
struct Share {
    int count, t, c, by_t, by_c;

    SSNO_DEVICE explicit Share(const Task& task) : count((K::COLUMNS << task.bits) / THREADS) {
        if (task.along_time) {  // a warp takes 16 samples of two chunks at once
            const int part = thread() / 32, parts = 1 << (task.bits - 4);
            t = thread() % 16 + part % parts * 16;
            c = thread() / 16 % 2 + part / parts * 2;
            by_t = 0;
            by_c = THREADS >> task.bits;
        } else {
            t = thread() / K::COLUMNS;
            c = thread() % K::COLUMNS;
            by_t = THREADS / K::COLUMNS;
            by_c = 0;
        }
    }
    SSNO_DEVICE int at() const { return t * K::PITCH + c; }
    SSNO_DEVICE void next() {
        t += by_t;
        c += by_c;
    }
};

// Samples of chunks as rows of time, 0 beyond their ends; LATE: chunks end together. EXACT: as they
// are, not as a product takes them.
template <class K, bool LATE, bool EXACT, class S>
SSNO_DEVICE void load_as(const Task& task, const Array& a, Shared<int64_t> base, Shared<int> sizes,
                         Shared<typename K::T> to) {
    using T = typename K::T;
    constexpr int BATCH = 8;  // under way at a time; divides every count
    const S* p = static_cast<const S*>(a.p);
    Share<K> share(task);
    Share<K> there = share;
    int64_t offset = share.t * a.step;
    const int64_t by = share.by_t * a.step;
#pragma unroll 1
    for (int first = 0; first < share.count; first += BATCH) {
        T x[BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; ++i, share.next(), offset += by) {
            const int size = sizes.load(share.c), late = LATE ? K::STEPS - size : 0;
            const int j = share.t - late;
            x[i] = 0;
            if (j >= 0 && j < size)
                x[i] = cuda::widen(p[base.load(share.c) + offset - late * a.step]);
        }
#pragma unroll
        for (int i = 0; i < BATCH; ++i, there.next())
            to.store(there.at(), EXACT ? x[i] : rounded<K>(x[i]));
    }
}
// Those loaded EXACT, as a product takes them.
template <class K>
SSNO_DEVICE void round_samples(Shared<typename K::T> samples) {
    using P = Pack<typename K::T>;
    constexpr int IN_ROW = K::COLUMNS / P::SIZE;
#pragma unroll 2
    for (int i = thread(); i < K::STEPS * IN_ROW; i += THREADS) {
        const int at = i / IN_ROW * K::PITCH + i % IN_ROW * P::SIZE;
        P x = samples.load16(at);
#pragma unroll
        for (int j = 0; j < P::SIZE; ++j) x.v[j] = rounded<K>(x.v[j]);
        samples.store16(at, x);
    }
}
template <class K, class S>
SSNO_DEVICE void store_as(const Task& task, const Array& a, Shared<int64_t> base, Shared<int> sizes,
                          Shared<typename K::T> from) {
    S* p = static_cast<S*>(a.p);
    Share<K> share(task);
    int64_t offset = share.t * a.step;
#pragma unroll 8
    for (int i = 0; i < share.count; ++i, share.next(), offset += share.by_t * a.step)
        if (share.t < sizes.load(share.c))
            cuda::narrow(from.load(share.at()), p[base.load(share.c) + offset]);
}

// f(a number of the type that samples have in memory)
template <class K, class F>
SSNO_DEVICE void with_dtype(Dtype dtype, const F& f) {
    if constexpr (sizeof(typename K::T) == 8) {
        f(double());
    } else if (dtype == Dtype::f32) {
        f(float());
    } else if (dtype == Dtype::bf16) {
        f(cuda::bf16());
    } else {
        f(cuda::f16());
    }
}
template <class K, bool LATE, bool EXACT = false>
SSNO_DEVICE void load_samples(const Task& task, const Array& a, Shared<int64_t> base,
                              Shared<int> sizes, Shared<typename K::T> to) {
    with_dtype<K>(task.dtype,
                  [&](auto s) { load_as<K, LATE, EXACT, decltype(s)>(task, a, base, sizes, to); });
}
template <class K>
SSNO_DEVICE void store_samples(const Task& task, const Array& a, Shared<int64_t> base,
                               Shared<int> sizes, Shared<typename K::T> from) {
    with_dtype<K>(task.dtype,
                  [&](auto s) { store_as<K, decltype(s)>(task, a, base, sizes, from); });
}

// Starts the copy of a table of ROWS rows.
template <int ROWS, int COLS, int PITCH, class T>
SSNO_DEVICE void copy_table(const T* from, Shared<T> to) {
    constexpr int PER = 16 / sizeof(T), IN_ROW = COLS / PER;
#pragma unroll
    for (int i = thread(); i < ROWS * IN_ROW; i += THREADS)
        cuda::copy_async16(to, i / IN_ROW * PITCH + i % IN_ROW * PER, from + i * PER);
}

// A factor in double precision, in the precision of states. EXACT: of float numbers it is two,
// since the rounding of one would add up over the chunks of a long memory.
template <class T, bool EXACT>
struct Factor {
    static constexpr bool TWO = EXACT && sizeof(T) == 4;
    T re, im, re_rest = 0, im_rest = 0;
    SSNO_DEVICE explicit Factor(const double* p)
        : re(static_cast<T>(p[0])), im(static_cast<T>(p[1])) {
        if constexpr (TWO) {
            re_rest = static_cast<T>(p[0] - re);
            im_rest = static_cast<T>(p[1] - im);
        }
    }
    // (x, y) times this, plus (a, b)
    SSNO_DEVICE void apply(T& x, T& y, T a, T b) const {
        if constexpr (TWO) {
            a = cuda::fma(re_rest, x, cuda::fma(-im_rest, y, a));
            b = cuda::fma(re_rest, y, cuda::fma(im_rest, x, b));
        }
        const T real = cuda::fma(re, x, cuda::fma(-im, y, a));
        y = cuda::fma(re, y, cuda::fma(im, x, b));
        x = real;
    }
};

// The states of a walk: in `panel`, rows of numbers of modes, what each chunk adds to the state is
// replaced by the state before the chunk. That before a line is loaded, that after it stored.
// FACTORS: the panel is a factor of a product then.
template <class K, bool FACTORS>
struct Walk {
    using T = typename K::T;
    using Decay = Factor<T, !K::MMA>;
    const Task& task;
    const Tile<K>& tile;
    const StateArray *enter, *leave;  // leave may be null
    int sweep;
    bool from_last;

    // An item is a mode of a line.
    SSNO_DEVICE void run(Shared<T> panel, int64_t block, int item) const {
        const int64_t mode = block * MODES + item % MODES, row = tile.row + item / MODES;
        if (item >= MODES * task.lines || mode >= task.modes || row >= task.rows) return;
        const int64_t first = (sweep * task.channels + tile.channel) * task.blocks * MODES;
        const double* decays = task.table.decays + (first + mode) * DECAYS;
        const Decay whole(decays + 2 * WHOLE), rest(decays + 2 * (tile.is_last ? REST : WHOLE));
        const Shared<T> p = panel + (item % MODES * 2 * K::PITCH + item / MODES);
        T x = 0, y = 0;
        if (enter->p) {
            const T* from = static_cast<const T*>(enter->p) + place(*enter, row, mode);
            x = from[0];
            y = enter->conjugate ? -from[enter->part] : from[enter->part];
        }
        if (task.periodic) {  // (D5); what was loaded is added to the state after the line
            T re = 0, im = 0;
            over_chunks<false>(p, whole, rest, re, im);
            const Decay closed(decays + 2 * CLOSED);
            x += re;
            y += im;
            closed.apply(x, y, 0, 0);
        }
        over_chunks<true>(p, whole, rest, x, y);
        if (leave && leave->p) {
            T* to = static_cast<T*>(leave->p) + place(*leave, row, mode);
            to[0] = x;
            to[leave->part] = leave->conjugate ? -y : y;
        }
    }

  private:
    SSNO_DEVICE int64_t place(const StateArray& a, int64_t row, int64_t mode) const {
        return tile.segment * a.segment + sweep * a.sweep + tile.channel * a.channel +
               row_offset(task, a, row) + mode * a.step;
    }
    template <bool KEEP>
    SSNO_DEVICE void over_chunks(Shared<T> p, const Decay& whole, const Decay& rest, T& x,
                                 T& y) const {
        const int last = tile.chunks - 1, by = from_last ? -task.lines : task.lines;
        int c = from_last ? last * task.lines : 0;
        const auto step = [&](const Decay& decay) {
            const T a = p.load(c), b = p.load(c + K::PITCH);
            if (KEEP) {
                p.store(c, FACTORS ? rounded<K>(x) : x);
                p.store(c + K::PITCH, FACTORS ? rounded<K>(y) : y);
            }
            decay.apply(x, y, a, b);
            c += by;
        };
        if (from_last) step(rest);
#pragma unroll 4
        for (int i = 0; i < last; ++i) step(whole);
        if (!from_last) step(rest);
    }
};

}  // namespace ssno::damped_conv
