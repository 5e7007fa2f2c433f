// SPDX-License-Identifier: MIT
// What a kernel of the damped convolution is told: pointers, sizes, and strides in elements. A row
// is one sequence of a channel: an entry of the batch at one place of the grid's other axes.
#pragma once

#include <cstdint>

#include "ssno/dtypes.h"

namespace ssno::damped_conv {

constexpr int MAX_AXES = 24;

// (B, H, *grid) of the activation's dtype, or states (S, B, H, *others, N, 2)
struct Array {
    void* p = nullptr;
    int64_t row[MAX_AXES] = {};  // strides of the axes that rows are counted over
    int64_t channel = 0;
    int64_t step = 0;             // from sample to sample; of states, from mode to mode
    int64_t sweep = 0, part = 0;  // of states
};

// What every backend is told. A null pointer means that there is none, or that nobody asked.
struct Convolution {
    Dtype dtype = Dtype::f32;
    int sweeps = 1;
    bool periodic = false;
    int64_t channels = 0, rows = 0, length = 0, modes = 0;
    int axes = 0;  // that rows are counted over, the last one fastest
    int64_t size[MAX_AXES] = {};
    const double* rate = nullptr;  // (S, H, N, 2), contiguous
    Array u, out, initial_state, final_state;
    Array v_out, v_u, v_final_state, v_initial_state;
};

struct Params : Convolution {
    bool from_end[2] = {false, false};  // whether a sweep starts at the last sample
    const double* coeff = nullptr;      // (S, H, N, 2)
    const double* skip = nullptr;       // D (H,)
    double *v_rate = nullptr, *v_coeff = nullptr, *v_skip = nullptr;
    int threads = 1;
    void (*parallel)(int64_t count, const void* context,
                     void (*body)(const void*, int64_t)) = nullptr;
};

}  // namespace ssno::damped_conv

#define SSNO_DECLARE(isa)                                  \
    namespace ssno::isa {                                  \
    void damped_conv_forward(const damped_conv::Params&);  \
    void damped_conv_backward(const damped_conv::Params&); \
    }
SSNO_DECLARE(avx512)
SSNO_DECLARE(avx2)
SSNO_DECLARE(plain)
#undef SSNO_DECLARE
