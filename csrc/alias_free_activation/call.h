// SPDX-License-Identifier: MIT
// How one call is laid on lanes, rows, tiles and threads.
//
// The axes of the grid get roles: the LANE axis lies along a row; the ROW axis is swept row by row;
// the SLICE axis, of 3-D grids, is taken one fine sample after the other. Lanes are positions along
// the lane axis, or channels where those are adjacent in memory. A task is one tile of the output
// of one unit, a plane or a block of channels; it needs nothing from other tasks.
#pragma once

#include <new>

#include "alias_free_activation/choice.h"
#include "alias_free_activation/field.h"

namespace ssno::SSNO_ISA::alias_free {

enum Role : int { SLICE, ROW, LANE };

// Zeroed memory on a cache line's boundary.
template <class T>
class Room {
  public:
    explicit Room(int64_t size) : size_(size) {
        const size_t bytes = static_cast<size_t>(size > 0 ? size : 1) * sizeof(T);
        p_ = static_cast<T*>(::operator new(bytes, std::align_val_t{64}));
        std::memset(static_cast<void*>(p_), 0, bytes);
    }
    ~Room() { ::operator delete(p_, std::align_val_t{64}); }
    Room(const Room&) = delete;
    Room& operator=(const Room&) = delete;
    operator T*() const { return p_; }
    void clear() { std::memset(static_cast<void*>(p_), 0, size_ * sizeof(T)); }

  private:
    T* p_;
    int64_t size_;
};

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t most(int64_t a, int64_t b) { return a < b ? b : a; }
inline int64_t lcm(int64_t a, int64_t b) {
    int64_t x = a, y = b;
    while (y) {
        const int64_t r = x % y;
        x = y, y = r;
    }
    return a / x * b;
}

constexpr int64_t BUDGET = 512 << 10;  // bytes of rows that one thread works on: half a cache

template <class T>
struct Call {
    static constexpr int W = Lanes<T>::W;
    const Params& p;
    const bool backward;
    bool channels = false;  // lanes are channels
    int axis[AXES];         // of a role
    int64_t n[AXES], m[AXES];
    Room<T> weights;
    Link<T> up[AXES], down[AXES];
    int64_t shift, group;             // elements of a period along a row; periods swept at once
    int64_t tile[AXES], tiles[AXES];  // samples of a tile of the output
    int64_t blocks, units, tasks;

    Call(const Params& params, bool is_backward)
        : p(params),
          backward(is_backward),
          weights(2 + params.up_filter.size + 2 * params.down_filter.size) {
        give_roles();
        make_links();
        shift = channels ? W : 1;
        group = !p.filtered[axis[ROW]] ? 1 : channels ? 4 : 8;
        blocks = channels ? ceil_div(p.channels, W) : p.channels;
        units = p.batch * blocks;
        make_tiles();
    }

    const Link<T>& out_link(int role) const { return backward ? up[role] : down[role]; }
    int64_t out_size(int role) const { return backward ? n[role] : m[role]; }

    // A row's adjacent elements should be its lanes'; without such, lanes need a long axis.
    void give_roles() {
        int lane = AXES - 1;
        bool adjacent = false;
        for (int a = 0; a < AXES; ++a) {
            if (p.filtered[a] && p.x.g[a] == 1 && 2 * p.n[a] >= W) lane = a, adjacent = true;
        }
        channels = !adjacent && p.x.c == 1 && 2 * p.channels >= W;
        if (!adjacent)
            for (int a = 0; a < AXES; ++a)
                if (p.filtered[a]) {
                    const bool nearer = p.x.g[a]<p.x.g[lane], longer = p.n[a]> p.n[lane];
                    if (channels ? nearer : longer) lane = a;
                }
        int others[AXES - 1], count = 0;
        for (int a = 0; a < AXES; ++a)
            if (a != lane) others[count++] = a;
        const bool swap = p.filtered[others[0]] && p.x.g[others[0]] < p.x.g[others[1]];
        axis[SLICE] = others[swap];
        axis[ROW] = others[!swap];
        axis[LANE] = lane;
        for (int role = 0; role < AXES; ++role)
            n[role] = p.n[axis[role]], m[role] = p.m[axis[role]];
    }

    // gain is a factor of the row axis' down filter
    void make_links() {
        const int64_t K = p.up_filter.size, M = p.down_filter.size;
        T* one = weights;
        T *gain = one + 1, *f = gain + 1, *g = f + K, *with_gain = g + M;
        *one = 1;
        *gain = static_cast<T>(p.gain);
        const T* from = static_cast<const T*>(p.up_filter.p);
        for (int64_t k = 0; k < K; ++k) f[k] = from[k * p.up_filter.stride] * static_cast<T>(p.up);
        from = static_cast<const T*>(p.down_filter.p);
        for (int64_t k = 0; k < M; ++k) {
            g[k] = from[(M - 1 - k) * p.down_filter.stride];
            with_gain[k] = g[k] * *gain;
        }
        const int64_t period = lcm(p.up, p.down);
        for (int role = 0; role < AXES; ++role) {
            if (p.filtered[axis[role]]) {
                up[role] = Link<T>(f, K, p.up, period, K - 1 - p.low[axis[role]]);
                down[role] = Link<T>(role == ROW ? with_gain : g, M, p.down, period, 0);
            } else {
                up[role] = Link<T>(one, 1, 1, 1, 0);
                down[role] = Link<T>(role == ROW ? gain : one, 1, 1, 1, 0);
            }
        }
    }

    int64_t periods(int role, int64_t samples) const {  // at most, of so much output
        const Link<T>& link = out_link(role);
        return ((samples - 1) * link.rate + link.taps - 1) / link.period + 2;
    }
    int64_t positions(int64_t periods) const {  // elements of one phase along a row
        return channels ? periods * W : round_up(periods, W);
    }

    // Rows as long as the budget allows; then, for too few units, tiles along the outermost axis.
    void make_tiles() {
        const auto rows_of = [&](const Link<T>& link) { return link.window + link.per * group; };
        const int64_t rows = rows_of(up[ROW]) * (backward ? 2 : 1) + rows_of(down[ROW]);
        const int64_t bytes = rows * up[LANE].period * shift * static_cast<int64_t>(sizeof(T));
        const int64_t longest = most(32, BUDGET / bytes) * out_link(LANE).per;
        cut(LANE, ceil_div(out_size(LANE), longest));
        cut(ROW, 1);
        cut(SLICE, 1);
        const int outer = p.filtered[axis[SLICE]] ? SLICE : p.filtered[axis[ROW]] ? ROW : LANE;
        const Link<T>& link = out_link(outer);
        const int64_t pieces_at_most = out_size(outer) / (4 * ceil_div(link.taps, link.rate));
        const int64_t others = outer == LANE ? units : units * tiles[LANE];
        int64_t pieces = tiles[outer];
        while (pieces < pieces_at_most && others * pieces < 4 * p.threads &&
               others * pieces % p.threads)
            ++pieces;
        cut(outer, pieces);
        tasks = units * tiles[SLICE] * tiles[ROW] * tiles[LANE];
    }
    void cut(int role, int64_t pieces) {
        tile[role] = round_up(ceil_div(out_size(role), pieces), out_link(role).per);
        tiles[role] = ceil_div(out_size(role), tile[role]);
    }
};

}  // namespace ssno::SSNO_ISA::alias_free
