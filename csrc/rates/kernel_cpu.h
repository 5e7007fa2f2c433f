// SPDX-License-Identifier: MIT
// Loops that do nothing but what the kernels' limits are counted in, from registers: how many
// exponentials and multiply-adds a second this machine can do at best.
#pragma once

#include "rates/rates.h"
#include "ssno/elementary.h"

namespace ssno::SSNO_ISA {

constexpr int CHAINS = 8;  // independent vectors, enough to hide the latency of each operation

template <class F>
SSNO_INLINE float repeat(int64_t times, F step) {
    Vec<float> x[CHAINS];
    for (int k = 0; k < CHAINS; ++k)
        for (int i = 0; i < Lanes<float>::W; ++i) x[k][i] = -0.01f * static_cast<float>(k + i);
    for (int64_t j = 0; j < times; ++j)
#pragma GCC unroll 8
        for (int k = 0; k < CHAINS; ++k) x[k] = step(x[k]);
    Vec<float> total{};
    for (int k = 0; k < CHAINS; ++k) total += x[k];
    return sum<float>(total);
}

Work exponentials(int64_t times) {
    return {repeat(times, [](Vec<float> x) { return exp2<float, Range::bounded>(x); }),
            static_cast<double>(times) * CHAINS * Lanes<float>::W};
}

Work multiply_adds(int64_t times) {
    return {repeat(times, [](Vec<float> x) { return x * 0.999f + 0.001f; }),
            static_cast<double>(times) * CHAINS * Lanes<float>::W};
}

}  // namespace ssno::SSNO_ISA
