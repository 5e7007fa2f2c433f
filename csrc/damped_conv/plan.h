// SPDX-License-Identifier: MIT
// How the samples of a channel are laid on lanes and threads.
//
// Time is cut into segments, segments into chunks. A column is one segment of one row, and a tile
// is as many columns of equal length as two vectors have lanes. Where rows fill the lanes, a row is
// one segment, unless the states of its chunks would not stay in the cache; where they do not, rows
// are cut until segments fill them. Nothing depends on the number of threads, and so no result
// does.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "damped_conv/params.h"

namespace ssno::SSNO_ISA {

using namespace ssno::damped_conv;

constexpr int64_t CHUNK = 32;             // steps between states in a long sequence
constexpr int64_t MOST_STEPS = 256;       // of a sequence that is one chunk
constexpr int64_t CHAIN_BYTES = 1 << 20;  // states of a tile's chunks
constexpr int64_t SMALL_BYTES = 8 << 20;  // of u, where extra memory matters little
constexpr int64_t TASKS = 16;             // to share out among threads, at least

struct Span {  // `count` segments of `length` samples each
    int64_t first = 0, count = 0, length = 0;
    int64_t index = 0;  // of its first segment
    int64_t tiles = 0;
};

struct Plan {
    int64_t chunk = 0;
    Span span[3];
    int spans = 0;
    int64_t segments = 0, tiles = 0;  // of a row, of a channel
    int64_t groups = 1;               // into which a channel's tiles are split for the threads
    int64_t longest = 0;              // segment
    bool has_states = false;          // whether any chunk starts from a state

    void add(const Params& p, int64_t lanes, int64_t count, int64_t length) {
        if (count == 0 || length == 0) return;
        Span s;
        s.first =
            spans ? span[spans - 1].first + span[spans - 1].count * span[spans - 1].length : 0;
        s.count = count;
        s.length = length;
        s.index = segments;
        s.tiles = (count * p.rows + lanes - 1) / lanes;
        span[spans++] = s;
        segments += count;
        tiles += s.tiles;
        longest = std::max(longest, length);
    }

    // First sample and length of a segment
    std::pair<int64_t, int64_t> segment(int64_t index) const {
        int k = spans - 1;
        while (span[k].index > index) --k;
        return {span[k].first + (index - span[k].index) * span[k].length, span[k].length};
    }
};

inline bool has_outer_states(const Params& p) {
    return p.periodic || p.initial_state.p || p.final_state.p || p.v_initial_state.p ||
           p.v_final_state.p;
}

// A chunk costs its length in multiply-adds a sample, its states 4 N for each sweep, and their
// tables the more the longer it is: a sequence that needs no states is one chunk while that is
// cheaper.
inline int64_t chunk_steps(const Params& p) {
    const int64_t dense = std::clamp<int64_t>(4 * p.modes * p.sweeps, 2 * CHUNK, MOST_STEPS);
    const int64_t most = has_outer_states(p) ? 2 * CHUNK : dense;
    return p.length <= most ? p.length : CHUNK;
}

inline Plan make_plan(const Params& p, int64_t lanes, int64_t bytes) {
    Plan plan;
    plan.chunk = chunk_steps(p);
    plan.has_states = has_outer_states(p) || plan.chunk < p.length;
    const int64_t full = p.length / plan.chunk, tail = p.length % plan.chunk;
    const int64_t states = 2 * p.modes * p.sweeps * lanes * bytes;
    const int64_t most = std::clamp<int64_t>(CHAIN_BYTES / states, 8, 128);
    const bool small = p.rows * p.channels * p.length * bytes <= SMALL_BYTES;
    const int64_t least = small ? 4 : std::max<int64_t>(8, p.modes / 2);
    const int64_t columns =
        lanes * std::max<int64_t>(1, TASKS / 2 / std::max<int64_t>(1, p.channels));
    const int64_t wanted = (columns + p.rows - 1) / std::max<int64_t>(1, p.rows);
    const int64_t n =
        std::max({(full + most - 1) / most, std::min(wanted, full / least), int64_t(1)});
    if (n == 1) {
        plan.add(p, lanes, 1, p.length);
    } else {
        const int64_t per = full / n, rest = full % n;
        plan.add(p, lanes, n, per * plan.chunk);
        if (p.rows >= lanes && rest <= per) {
            plan.add(p, lanes, 1, rest * plan.chunk + tail);
        } else {
            plan.add(p, lanes, rest, plan.chunk);
            plan.add(p, lanes, 1, tail);
        }
    }
    const int64_t wanted_groups = (TASKS + p.channels - 1) / std::max<int64_t>(1, p.channels);
    plan.groups = std::clamp<int64_t>(wanted_groups, 1, std::max<int64_t>(1, plan.tiles));
    return plan;
}

}  // namespace ssno::SSNO_ISA
