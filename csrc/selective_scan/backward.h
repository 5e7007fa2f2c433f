// SPDX-License-Identifier: MIT
// The adjoint pass over all tiles: how they are shared out among threads, the carry between chunks
// of time, and the sums that several threads contribute to.
#pragma once

#include "selective_scan/kernel_cpu_bwd.h"

namespace ssno::SSNO_ISA {

template <class T>
void write_channels(const Params& p, const ChannelSums<T>& sums, const ChannelRows& row,
                    int64_t parts) {
    auto states = [&](const void* out, int64_t first, int64_t d_stride, int64_t n, int64_t c) {
        if (!out) return;
        for (int64_t i = 0; i < p.states * parts; ++i)
            for (int64_t d = 0; d < p.channels; ++d)
                static_cast<T*>(const_cast<void*>(
                    out))[d * d_stride + i / parts * n + i % parts * c] = sums.total(first + i, d);
    };
    states(p.grad.v_A.p, row.A, p.grad.v_A.d, p.grad.v_A.n, p.grad.v_A.c);
    for (const auto& [M, first] : {std::pair{p.grad.v_B, row.B}, std::pair{p.grad.v_C, row.C}})
        if (M.constant) states(M.p, first, M.g, M.n, M.c);
    auto vector = [&](const void* out, int64_t r, int64_t stride) {
        for (int64_t d = 0; out && d < p.channels; ++d)
            static_cast<T*>(const_cast<void*>(out))[d * stride] = sums.total(r, d);
    };
    vector(p.grad.v_D.p, row.D, p.grad.v_D.d);
    vector(p.grad.v_delta_bias.p, row.bias, p.grad.v_delta_bias.d);
    for (int64_t r = 0; r < p.rank; ++r) {
        const Weight& w = p.grad.v_delta_weight;
        vector(w.p ? static_cast<const T*>(w.p) + r * w.r : nullptr, row.weight + r, w.d);
    }
}

// Groups into which the blocks of a segment are split, so that each thread has work. Each group has
// its own sums v_B and v_C, which are kept below half of u where that leaves no thread idle.
inline int64_t block_groups(const Params& p, const Plan& plan) {
    if (plan.blocks == 1 || plan.segments == 0) return 1;
    if (plan.segments >= 4 * p.threads || plan.segments % p.threads == 0) return 1;
    const int64_t wanted = (4 * p.threads + plan.segments - 1) / plan.segments;
    const int64_t affordable = plan.per_run / (4 * p.states * (p.is_complex ? 2 : 1));
    return std::min({plan.blocks, wanted, std::max<int64_t>(affordable, p.threads)});
}

template <class T, bool X>
void backward_as(const Params& p) {
    constexpr int W = Lanes<T>::W, P = X ? 2 : 1;
    const Plan plan = make_plan(p, W);
    const bool shareable = !p.B.constant && !p.C.constant && plan.packed == 1;
    const int64_t groups = block_groups(p, plan);
    const int64_t per_part = (plan.blocks + groups - 1) / groups;
    const int64_t parts = (plan.blocks + per_part - 1) / per_part;
    const int64_t units = plan.packed == 1 ? plan.segments * parts : plan.tiles;
    const RowSumsOf<T> rows(p, plan, parts, P);
    const ChannelRows row(p, P);
    const ChannelSums<T> channels(p, row.total, std::min<int64_t>(p.threads, units));
    const bool carries = plan.chunks > 1;
    const Plan none{};
    Carry<T, X, true> carry(p, carries ? plan : none);

    auto over_tiles = [&](auto body) {
        in_slots(p, units, [&](int64_t slot, int64_t begin, int64_t end) {
            Backward<T, X> work(p, plan, rows);
            for (int64_t unit = begin; unit < end; ++unit) {
                const int64_t part = plan.packed == 1 ? unit % parts : 0;
                const int64_t from =
                    plan.packed == 1 ? unit / parts * plan.blocks + part * per_part : unit;
                const int64_t to =
                    plan.packed == 1
                        ? unit / parts * plan.blocks + std::min((part + 1) * per_part, plan.blocks)
                        : unit + 1;
                for (int64_t index = from; index < to; ++index) {
                    const Tile<T> tile(p, plan, index);
                    work.begin(tile);
                    body(work, tile, index, slot, Part{part, index == from});
                }
            }
        });
    };
    if (carries) {
        over_tiles([&](Backward<T, X>& work, const Tile<T>& tile, int64_t index, int64_t, Part) {
            auto source = [&](const Tile<T>& tile, int64_t t0, int steps, T* x) {
                work.stage.stage_input(tile, t0, steps, work.dt_u);
                work.stage_cotangent(tile, t0, steps, x);
            };
            if (shareable)
                carry.template walk<true>(work.stage, tile, index, work.v_y, source);
            else
                carry.template walk<false>(work.stage, tile, index, work.v_y, source);
        });
        carry.link(p.grad.v_final_state);
    }
    over_tiles(
        [&](Backward<T, X>& work, const Tile<T>& tile, int64_t index, int64_t slot, Part part) {
            if (carries)
                std::memcpy(work.v_h, carry.of(index), carry.size * sizeof(T));
            else
                take_initial<T, X>(p, tile, p.grad.v_final_state, work.v_h);
            if (shareable)
                work.template run<true>(tile, part);
            else
                work.template run<false>(tile, part);
            channels.add(tile, slot, work.sums);
        });
    rows.B.write(p, plan);
    rows.C.write(p, plan);
    rows.delta.write(p, plan);
    write_channels(p, channels, row, P);
}

}  // namespace ssno::SSNO_ISA
