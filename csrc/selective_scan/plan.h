// SPDX-License-Identifier: MIT
// How the rows (batch, channel, chunk of time) of a scan are laid on lanes and threads.
//
// A segment is the channels of one run that read the same B and C, over one chunk of one batch
// entry. Lanes are channels of one segment where a run is wider than half a vector (B and C are
// then scalars for all lanes), else several whole segments are packed into one tile of lanes. Time
// is cut into chunks only where batch and channels fill neither lanes nor threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "selective_scan/params.h"

namespace ssno::SSNO_ISA {

using namespace ssno::selective_scan;

constexpr int STEPS = 64;            // steps that are staged in cache together
constexpr int64_t MIN_CHUNK = 1024;  // a shorter chunk costs more in its carry than it gains

struct Plan {
    int64_t runs = 0, per_run = 1;   // runs a batch entry has, channels a run has
    int64_t blocks = 1, packed = 1;  // tiles a segment has, segments a tile has; one of them is 1
    int64_t chunks = 0, chunk = 0;   // chunks of time, steps of each but the last
    int64_t segments = 0, tiles = 0;

    int64_t segment(int64_t b, int64_t run, int64_t c) const {
        return (b * runs + run) * chunks + c;
    }
};

inline int64_t channels_per_run(const Params& p) {
    const int64_t in_B = p.B.constant ? p.channels : p.channels / p.B.groups;
    const int64_t in_C = p.C.constant ? p.channels : p.channels / p.C.groups;
    return std::gcd(in_B, in_C);
}

inline Plan make_plan(const Params& p, int64_t lanes) {
    Plan plan;
    plan.per_run = channels_per_run(p);
    plan.runs = p.channels / plan.per_run;
    const bool shared = 2 * plan.per_run > lanes;
    plan.blocks = shared ? (plan.per_run + lanes - 1) / lanes : 1;
    plan.packed = shared ? 1 : lanes / plan.per_run;

    const int64_t rows = std::max<int64_t>(1, p.batch * plan.runs);
    const int64_t most = std::max<int64_t>(1, p.length / MIN_CHUNK);
    int64_t chunks = 1;
    if (shared) {
        const int64_t tiles = rows * plan.blocks;
        while (chunks < most && tiles * chunks < 4 * p.threads && tiles * chunks % p.threads)
            ++chunks;
    } else {
        chunks = std::clamp<int64_t>(plan.packed * p.threads / rows, 1, most);
    }
    const int64_t unit = std::max<int64_t>(STEPS, p.interval);
    plan.chunk = ((p.length + chunks - 1) / chunks + unit - 1) / unit * unit;
    plan.chunks = (p.length + plan.chunk - 1) / plan.chunk;
    plan.segments = p.batch * plan.runs * plan.chunks;
    plan.tiles = plan.blocks * ((plan.segments + plan.packed - 1) / plan.packed);
    return plan;
}

}  // namespace ssno::SSNO_ISA
