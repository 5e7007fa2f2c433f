// SPDX-License-Identifier: MIT
// How the CUDA kernels cut the work into tiles, decided on the host. A block takes one tile of the
// result (out, or v_x in the backward) of some channels of a batch entry and holds in shared memory
//     Q   the tile's samples of x or v_out, with those that the filters reach; then the result
//     R   what lies between two passes
//     F   the fine samples, at the rate where the nonlinearity acts
// Passes go along one axis each: on the way in W, then H expand the tile from Q over R to F, on the
// way out H, then W reduce it from F over R to Q. Roles D, H, W are the grid's axes by their
// strides. On three axes this is done for one fine sample of D at a time: Q is a mean of slices of
// X (or V), and the result is added to slices of O.
//
// A link joins coarse samples n with fine ones j by the weight h[j + c - n rate]: for x (A3) the
// rate up and h = up f, for out (A5) the rate down, c = 0 and h = g reversed.
#pragma once

#include <algorithm>
#include <cstdint>

#include "alias_free_activation/boxes_cuda.h"

namespace ssno::alias_free_activation {

// Lines along H or W, each in pieces of some coarse samples; `across` is the other axis.
struct Pass {
    struct Side {
        int step, across, channel;
    };
    int axis, across_axis, lines, items, size;  // `size`: of the axis in the buffer written
    Divider by_lines, by_across;
    Side from, to;

    Pass() = default;
    Pass(int a, const Box& in, const Box& out, int channels, int pieces)
        : axis(a), across_axis(3 - a), size(out.n[a]) {
        lines = in.n[across_axis] * channels;
        items = lines * pieces;
        by_lines = Divider(lines);
        by_across = Divider(in.n[across_axis]);
        from = side(in);
        to = side(out);
    }
    Side side(const Box& b) const { return {b.stride(axis), b.stride(across_axis), b.channel()}; }
};

// Between all slices of a buffer of three axes and a single one of the same H and W.
struct Slices {
    int items, count, stride, row, channel, of_slice;  // `stride` of D, `of_slice` of its channels
    Divider by_w, by_h;

    Slices() = default;
    Slices(const Box& all, int channels)
        : items(all.n[1] * all.n[2] * channels),
          count(all.n[0]),
          stride(all.stride(0)),
          row(all.stride(1)),
          channel(all.channel()),
          of_slice(all.with(0, 1).channel()),
          by_w(all.n[2]),
          by_h(all.n[1]) {}
};

struct LinkSize {
    int taps, rate, steps;  // coarse samples that a thread takes at once
    SSNO_BOTH int window() const { return (taps + rate - 1) / rate; }
};

struct Plan {
    int axes, flat;  // filtered axes, and those among H and W
    bool filtered[AXES];
    int64_t tile[AXES], tiles[AXES], groups;  // of channels
    int channels;                             // of a group
    int64_t blocks;
    Pass expand_x[2], expand_v[2], reduce[2];  // in the order in which they are made
    Slices slices_x, slices_v, slices_o;       // on three axes
    int depth;                                 // fine samples of D
    Transfer transfers[3];                     // of x, v_out and the result
    int Q, R, F, X, V, O, bytes;               // offsets in bytes
};

constexpr int SHARED_LIMIT = 96 << 10, SHARED_GOAL = 64 << 10;
constexpr int GEOMETRY = 6;  // 64-bit numbers that a block keeps for each axis, and for itself
constexpr int PLACES = 1 + Transfer::DIMS;                      // and for each transfer
constexpr int KEPT = 8 * (GEOMETRY * (AXES + 1) + PLACES * 3);  // in bytes

inline int up_to(int64_t a, int64_t b) { return static_cast<int>((a + b - 1) / b * b); }

// The sizes along one filtered axis: of x or v_out, of the fine signal, of the result.
struct Extent {
    int x = 1, v = 1, fine = 1, result = 1, pieces_x = 1, pieces_v = 1, pieces_result = 1;

    Extent() = default;
    // The fine signal may begin up to rate - 1 samples early, where a coarse one lies.
    Extent(int64_t tile, LinkSize u, LinkSize v_link, bool backward) {
        const LinkSize out = backward ? u : v_link;
        result = up_to(tile, out.steps);
        const int needed = (result - 1) * out.rate + out.taps + (backward ? 0 : u.rate - 1);
        const int coarse = up_to((needed + u.rate - 1) / u.rate, u.steps);
        fine = coarse * u.rate;
        x = coarse + u.window() - 1;
        const int of_v = up_to((fine + 2 * v_link.rate - 2) / v_link.rate, v_link.steps);
        v = of_v + v_link.window() - 1;
        pieces_x = coarse / u.steps;
        pieces_v = of_v / v_link.steps;
        pieces_result = result / out.steps;
    }
};

class Planner {
  public:
    Planner(const Params& params, bool is_backward, LinkSize u_link, LinkSize v_link)
        : p(params), backward(is_backward), u(u_link), v(v_link) {
        by_strides();
        plan.axes = p.filtered[0] + p.filtered[1] + p.filtered[2];
        plan.flat = std::min(plan.axes, 2);
        const int64_t most[] = {0, 512, 32, 16};
        for (int a = 0; a < AXES; ++a) set_tile(a, a == 0 ? 8 : most[plan.axes]);
        const bool together = p.x.c < p.x.g[2];  // channels are adjacent in memory
        plan.channels = static_cast<int>(std::min<int64_t>(p.channels, together ? 8 : 1));
        while (lay_out() > SHARED_GOAL && shrink(4)) {
        }
        while (lay_out() > SHARED_LIMIT && shrink(1)) {
        }
        if (!fits()) {
            wide = false;
            lay_out();
        }
        while (2 * plan.channels <= p.channels && plan.reduce[0].items < THREADS &&
               2 * plan.bytes <= SHARED_GOAL) {
            plan.channels *= 2;
            lay_out();
        }
        plan.groups = (p.channels + plan.channels - 1) / plan.channels;
        plan.blocks = p.batch * plan.groups;
        for (int a = 0; a < AXES; ++a) plan.blocks *= plan.tiles[a];
    }

    // Whether a tile of one sample does; as arguments.beyond_cuda says for links of any kind.
    bool fits() const { return plan.bytes <= SHARED_LIMIT; }

    Params p;  // with its axes in the order of roles
    Plan plan;

  private:
    // W is the fastest of the filtered axes, and among absent ones the order says nothing.
    void by_strides() {
        int order[] = {0, 1, 2};
        std::stable_sort(order, order + AXES, [&](int a, int b) {
            if (p.filtered[a] != p.filtered[b]) return !p.filtered[a];
            const bool one_a = p.n[a] == 1, one_b = p.n[b] == 1;
            return one_a != one_b ? one_a : p.x.g[a] > p.x.g[b];
        });
        const Params from = p;
        for (int a = 0; a < AXES; ++a) {
            const int b = order[a];
            p.filtered[a] = from.filtered[b];
            p.n[a] = from.n[b];
            p.m[a] = from.m[b];
            p.low[a] = from.low[b];
            p.x.g[a] = from.x.g[b];
            p.out.g[a] = from.out.g[b];
            p.v_out.g[a] = from.v_out.g[b];
            p.v_x.g[a] = from.v_x.g[b];
        }
    }

    int64_t size(int a) const { return backward ? p.n[a] : p.m[a]; }

    void set_tile(int a, int64_t most) {
        plan.filtered[a] = p.filtered[a];
        plan.tiles[a] = (size(a) + most - 1) / most;
        plan.tile[a] = (size(a) + plan.tiles[a] - 1) / plan.tiles[a];
        const int pack = Transfer::pack_size(p.dtype);
        if (a < 2 || size(a) % pack != 0) return;
        // so that a tile's rows begin where those of the tensor are aligned
        plan.tile[a] = std::min<int64_t>(up_to(plan.tile[a], pack), most);
        plan.tiles[a] = (size(a) + plan.tile[a] - 1) / plan.tile[a];
    }

    // Halve the largest tile where it is above 16 samples, else the channels, else the tile again;
    // tiles not below `least` samples.
    bool shrink(int64_t least) {
        int largest = 0;
        for (int a = 1; a < AXES; ++a)
            if (plan.tile[a] > plan.tile[largest]) largest = a;
        if (plan.tile[largest] <= 16 && plan.channels > 1) {
            plan.channels /= 2;
            return true;
        }
        if (plan.tile[largest] <= least) return false;
        set_tile(largest, (plan.tile[largest] + 1) / 2);
        return true;
    }

    // Everything that follows from the tile; returns the bytes of shared memory.
    int lay_out() {
        Extent e[AXES];
        Box x, of_v, result, tile;
        for (int a = 0; a < AXES; ++a) {
            const int steps_u = a == 0 ? 1 : u.steps, steps_v = a == 0 ? 1 : v.steps;
            if (plan.filtered[a])
                e[a] = Extent(plan.tile[a], {u.taps, u.rate, steps_u}, {v.taps, v.rate, steps_v},
                              backward);
            x.n[a] = e[a].x;
            of_v.n[a] = e[a].v;
            result.n[a] = e[a].result;
            tile.n[a] = static_cast<int>(plan.tile[a]);
        }
        const int channels = plan.channels;
        const bool written = true;
        plan.transfers[0] = transfer(x, x, p.x, p.n, !written);
        plan.transfers[1] = transfer(of_v, of_v, p.v_out, p.m, !written);
        plan.transfers[2] = backward ? transfer(result, tile, p.v_x, p.n, written)
                                     : transfer(result, tile, p.out, p.m, written);
        plan.slices_x = Slices(x, channels);
        plan.slices_v = Slices(of_v, channels);
        plan.slices_o = Slices(result, channels);
        plan.depth = e[0].fine;
        place(lay_out_passes(e, x.with(0, 1), of_v.with(0, 1)), x, of_v, result);
        return plan.bytes;
    }

    // With room in the buffer for what is loaded of its rows.
    Transfer transfer(Box& b, const Box& tile, const Field& f, const int64_t* sizes,
                      bool written) const {
        const auto made = [&] {
            return Transfer(b, tile, plan.channels, f, sizes, p, wide, written);
        };
        const Transfer t = made();
        b.more = t.columns * t.width - t.n[0];
        return made();
    }

    struct Sizes {  // in elements
        int q, r, f;
    };
    Sizes lay_out_passes(const Extent* e, Box x, Box of_v) {
        const int channels = plan.channels;
        Sizes sizes{backward ? std::max(x.channel(), of_v.channel()) : x.channel(), 0, 0};
        for (int i = 0; i < plan.flat; ++i) {
            const int a = AXES - 1 - i;
            const Box fine = x.with(a, e[a].fine), fine_v = of_v.with(a, e[a].fine);
            plan.expand_x[i] = Pass(a, x, fine, channels, e[a].pieces_x);
            plan.expand_v[i] = Pass(a, of_v, fine_v, channels, e[a].pieces_v);
            x = fine;
            of_v = fine_v;
            int& room = i + 1 < plan.flat ? sizes.r : sizes.f;
            room = backward ? std::max(x.channel(), of_v.channel()) : x.channel();
        }
        for (int i = 0; i < plan.flat; ++i) {
            const int a = AXES - plan.flat + i;
            const Box coarse = x.with(a, e[a].result);
            plan.reduce[i] = Pass(a, x, coarse, channels, e[a].pieces_result);
            x = coarse;
            int& room = i + 1 < plan.flat ? sizes.r : sizes.q;
            room = std::max(room, x.channel());
        }
        return sizes;
    }

    // In the forward F takes the place of Q or R, which the last pass on the way in does not read;
    // in the backward it holds the derivative while v_out is expanded.
    void place(Sizes s, const Box& x, const Box& of_v, const Box& result) {
        const int element = p.dtype == Dtype::f64 ? 8 : 4;
        int end = KEPT + (u.taps + v.taps + plan.channels) * element;
        const auto take = [&](int size) {
            const int begin = up_to(end, 16);
            end = begin + size * plan.channels * element;
            return begin;
        };
        if (!backward) {
            int& room = plan.flat == 2 ? s.q : s.r;
            room = std::max(room, s.f);
        }
        plan.Q = take(s.q);
        plan.R = take(std::max(s.r, THREADS / cuda::WARP));
        plan.F = backward ? take(s.f) : plan.flat == 2 ? plan.Q : plan.R;
        const bool deep = plan.axes == AXES;
        plan.X = deep ? take(x.channel()) : plan.Q;
        plan.V = !backward ? 0 : deep ? take(of_v.channel()) : plan.Q;
        plan.O = deep ? take(result.channel()) : plan.Q;
        plan.bytes = end;
    }

    const bool backward;
    bool wide = true;  // 16 bytes at a time
    const LinkSize u, v;
};

}  // namespace ssno::alias_free_activation
