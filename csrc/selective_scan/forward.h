// SPDX-License-Identifier: MIT
// The forward pass over all tiles: the carry where time is cut into chunks, then the sweep.
#pragma once

#include "selective_scan/carry.h"

namespace ssno::SSNO_ISA {

template <class T, bool X>
void forward_as(const Params& p) {
    const Plan plan = make_plan(p, Lanes<T>::W);
    const bool shareable = !p.B.constant && !p.C.constant && plan.packed == 1;
    const bool carries = plan.chunks > 1;
    const Plan none{};
    Carry<T, X, false> carry(p, carries ? plan : none);
    auto over_tiles = [&](auto body) {
        in_slots(p, plan.tiles, [&](int64_t, int64_t begin, int64_t end) {
            Forward<T, X> work(p);
            for (int64_t index = begin; index < end; ++index) {
                const Tile<T> tile(p, plan, index);
                work.stage.begin(tile);
                body(work, tile, index);
            }
        });
    };
    if (carries) {
        over_tiles([&](Forward<T, X>& work, const Tile<T>& tile, int64_t index) {
            auto source = [&](const Tile<T>& tile, int64_t t0, int steps, T* x) {
                work.stage.stage_input(tile, t0, steps, x);
            };
            if (shareable)
                carry.template walk<true>(work.stage, tile, index, work.dt_u, source);
            else
                carry.template walk<false>(work.stage, tile, index, work.dt_u, source);
        });
        carry.link(p.initial_state);
    }
    over_tiles([&](Forward<T, X>& work, const Tile<T>& tile, int64_t index) {
        if (carries)
            std::memcpy(work.h, carry.of(index), carry.size * sizeof(T));
        else
            take_initial<T, X>(p, tile, p.initial_state, work.h);
        if (shareable)
            work.template run<true>(p, plan, tile);
        else
            work.template run<false>(p, plan, tile);
    });
}

}  // namespace ssno::SSNO_ISA
