// SPDX-License-Identifier: MIT
// What the forward and the backward of a block share: where it is, its weights, its tiles.
#pragma once

#include "alias_free_activation/nonlinearity_cuda.h"
#include "alias_free_activation/passes_cuda.h"

namespace ssno::alias_free_activation {

using cuda::sync_block;

template <class S>
struct Computed {
    using type = float;
};
template <>
struct Computed<double> {
    using type = double;
};

// Params without what only the host needs.
struct Task {
    Act act = Act::leaky_relu;
    bool backward = false;
    int64_t channels = 0, up = 1, down = 1;
    int64_t n[AXES] = {};                   // samples of x
    int64_t c[AXES] = {}, fine[AXES] = {};  // c of x's link; fine samples that out reaches
    LinkSize u = {}, v = {};
    Vector up_filter, down_filter, bias;
    double negative_slope = 0, gain = 1;
    void* scratch = nullptr;       // sums of v_x over tiles, or null
    int64_t tiles = 0, parts = 0;  // of a channel of a batch entry, and of a channel

    Task(const Params& p, bool is_backward, LinkSize u_link, LinkSize v_link)
        : act(p.act),
          backward(is_backward),
          channels(p.channels),
          up(p.up),
          down(p.down),
          u(u_link),
          v(v_link),
          up_filter(p.up_filter),
          down_filter(p.down_filter),
          bias(p.bias),
          negative_slope(p.negative_slope),
          gain(p.gain) {
        for (int a = 0; a < AXES; ++a) {
            n[a] = p.n[a];
            c[a] = p.up_filter.size - 1 - p.low[a];
            fine[a] = p.filtered[a] ? (p.m[a] - 1) * p.down + p.down_filter.size : 1;
        }
    }
};

SSNO_DEVICE int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

// Of a buffer's elements along a dimension, those that the tensor has.
struct Span {
    int begin, end;
    SSNO_DEVICE Span(int64_t origin, int64_t size)
        : begin(within(-origin)), end(within(size - origin)) {}
    SSNO_DEVICE static int within(int64_t i) {
        constexpr int64_t MOST = 1 << 30;  // beyond any buffer
        if (i < 0) return 0;
        return static_cast<int>(i < MOST ? i : MOST);
    }
};

// The same where the first may lie before the buffer.
struct Presence {
    int begin;
    uint32_t count;
    SSNO_DEVICE bool has(int i) const { return static_cast<uint32_t>(i - begin) < count; }
};

// Where a block is, written by few threads and read by all. By axis: where the buffers of x, of
// v_out and of the result begin, how many fine samples the two links begin apart (the block's begin
// with those of x's link), and which of the block's fine samples exist. By transfer: where in the
// tensor the buffer begins, and by dimension which of its elements the tensor has.
class Geometry {
  public:
    enum What { X, V, RESULT, SHIFT, BEGIN, END };

    SSNO_DEVICE Geometry()
        : numbers_(cuda::shared<int64_t>(0)), places_(numbers_ + GEOMETRY * (AXES + 1)) {}
    SSNO_DEVICE void find(const Plan& plan, const Task& task) const {
        const int a = thread();
        if (a > AXES) return;
        int64_t rest = cuda::block_number();
        int64_t tile = 0, tiles = 1, number = 0;
        for (int i = AXES - 1; i >= 0; --i) {
            tile = rest % plan.tiles[i];
            rest /= plan.tiles[i];
            number += tile * tiles;
            tiles *= plan.tiles[i];
            if (i == a) find_axis(plan, task, a, tile);
        }
        if (a < AXES) return;
        put(AXES, X, rest / plan.groups);
        put(AXES, V, rest % plan.groups * plan.channels);
        put(AXES, RESULT, number);
    }
    SSNO_DEVICE int64_t get(int axis, What what) const {
        return numbers_.load(axis * GEOMETRY + what);
    }
    SSNO_DEVICE int shift(int axis) const { return static_cast<int>(get(axis, SHIFT)); }
    SSNO_DEVICE int begin(int axis) const { return static_cast<int>(get(axis, BEGIN)); }
    SSNO_DEVICE int end(int axis) const { return static_cast<int>(get(axis, END)); }
    SSNO_DEVICE int64_t batch() const { return get(AXES, X); }
    SSNO_DEVICE int64_t channel() const { return get(AXES, V); }
    SSNO_DEVICE int64_t tile() const { return get(AXES, RESULT); }  // of the batch
    // After find and a barrier; another before what follows it.
    SSNO_DEVICE void find_places(const Plan& plan) const {
        const int what = thread() / PLACES, i = thread() - what * PLACES - 1;
        if (what >= 3) return;
        const Transfer& t = plan.transfers[what];
        const auto origin = [&](int dim) {
            return dim == Transfer::CHANNELS ? channel() : get(dim, static_cast<What>(what));
        };
        int64_t value = batch() * t.batch;
        if (i < 0) {
            for (int j = 0; j < t.DIMS; ++j) value += origin(t.dim[j]) * t.stride[j];
        } else {
            const int64_t first = origin(t.dim[i]);
            const int begin = bounded(-first), count = bounded(t.size[i] - first) - begin;
            value = static_cast<int64_t>(count) << 32 | static_cast<uint32_t>(begin);
        }
        places_.store(thread(), value);
    }
    SSNO_DEVICE int64_t place(What what) const { return places_.load(what * PLACES); }
    // Samples of a row that are loaded before its first, so that 16 bytes of the tensor begin it.
    SSNO_DEVICE int before(const Transfer& t, What what) const {
        return -there(what, 0).begin & (t.width - 1);
    }
    SSNO_DEVICE Presence there(What what, int dim) const {
        const int64_t value = places_.load(what * PLACES + 1 + dim);
        return {static_cast<int>(value), static_cast<uint32_t>(value >> 32)};
    }

  private:
    SSNO_DEVICE void put(int axis, What what, int64_t value) const {
        numbers_.store(axis * GEOMETRY + what, value);
    }
    SSNO_DEVICE void find_axis(const Plan& plan, const Task& task, int a, int64_t tile) const {
        const int64_t begin = tile * plan.tile[a];
        int64_t x = begin, v = begin, shift = 0, fine = begin;
        if (plan.filtered[a]) {
            const int64_t first = task.backward ? begin * task.up - task.c[a] : begin * task.down;
            const int64_t coarse = floor_div(first + task.c[a], task.up);
            const int64_t of_v = floor_div(first, task.down);
            x = coarse - (task.u.window() - 1);
            v = of_v - (task.v.window() - 1);
            shift = task.backward ? first - of_v * task.down : first + task.c[a] - coarse * task.up;
            fine = coarse * task.up - task.c[a];
        }
        put(a, X, x);
        put(a, V, v);
        put(a, RESULT, begin);
        put(a, SHIFT, shift);
        const Span there(fine, task.fine[a]);
        put(a, BEGIN, there.begin);
        put(a, END, there.end);
    }
    SSNO_DEVICE static int bounded(int64_t i) {
        constexpr int64_t MOST = 1 << 30;  // beyond any buffer; the last bits say what is aligned
        return static_cast<int>(i < -MOST ? (i & 7) - MOST : i < MOST ? i : MOST);
    }
    Shared<int64_t> numbers_, places_;
};

// The weights h of both links, up's behind the block's geometry and down's behind these; then the
// bias of each channel.
template <class T>
SSNO_DEVICE Shared<T> weights() {
    return cuda::shared<T>(KEPT);
}
template <class T>
SSNO_DEVICE void load_weights(const Plan& plan, const Task& task, const Geometry& here) {
    const T* up = static_cast<const T*>(task.up_filter.p);
    const T* down = static_cast<const T*>(task.down_filter.p);
    const T* bias = static_cast<const T*>(task.bias.p);
    const int K = task.u.taps, M = task.v.taps;
    for (int k = thread(); k < K; k += THREADS)
        weights<T>().store(k, up[k * task.up_filter.stride] * static_cast<T>(task.up));
    for (int k = thread(); k < M; k += THREADS)
        weights<T>().store(K + k, down[(M - 1 - k) * task.down_filter.stride]);
    for (int c = thread(); c < plan.channels; c += THREADS) {
        const int64_t channel = here.channel() + c;
        const bool there = bias && channel < task.channels;
        weights<T>().store(K + M + c, there ? bias[channel * task.bias.stride] : T(0));
    }
}

template <class T>
struct Buffers {
    Shared<T> Q, R, F, X, V, O;

    SSNO_DEVICE Buffers(const Plan& plan, const Geometry& here)
        : Q(cuda::shared<T>(plan.Q)),
          R(cuda::shared<T>(plan.R)),
          F(cuda::shared<T>(plan.F)),
          X(cuda::shared<T>(plan.X) + here.before(plan.transfers[Geometry::X], Geometry::X)),
          V(cuda::shared<T>(plan.V) + here.before(plan.transfers[Geometry::V], Geometry::V)),
          O(cuda::shared<T>(plan.O)) {}
};

// (A5), or the transpose of (A3), from F to Q; if Shifted, fine samples begin before the link's.
template <bool Shifted, class T, class L>
SSNO_DEVICE void reduced(const Plan& plan, const Geometry& here, const L& link,
                         const Buffers<T>& b) {
    for (int i = 0; i < plan.flat; ++i) {
        const Pass& pass = plan.reduce[i];
        const bool last = i + 1 == plan.flat;
        reduce(pass, link, i == 0 ? b.F : b.R, Shifted ? here.shift(pass.axis) : 0,
               last ? b.Q : b.R);
        sync_block();
    }
}

// The sum over the block of a number of each thread, in thread 0; in an order that never changes.
template <class T>
SSNO_DEVICE T block_sum(T x, Shared<T> sums) {
    for (int by = cuda::WARP / 2; by > 0; by /= 2) x += cuda::shuffle_xor(x, by);
    sync_block();
    if (cuda::lane() == 0) sums.store(cuda::warp(), x);
    sync_block();
    T total = 0;
    if (thread() == 0)
        for (int i = 0; i < THREADS / cuda::WARP; ++i) total += sums.load(i);
    return total;
}

}  // namespace ssno::alias_free_activation
