// SPDX-License-Identifier: MIT
// What a kernel of the selective scan is told: pointers, sizes, and strides in elements. A reversed
// sweep is a negative time stride from the last sample, so kernels only know the sweep's own time.
#pragma once

#include <cstdint>

#include "ssno/dtypes.h"

namespace ssno::selective_scan {

// Where the steps of a sweep lie: up to three nested counters, the innermost of `inner` steps. A
// sequence is one counter; a traversal of a grid has one for each axis that it cannot merge.
struct Path {
    static constexpr int64_t ENDLESS = int64_t(1) << 62;
    int64_t t = 0, inner = ENDLESS;    // stride and extent of the innermost counter
    int64_t t1 = 0, middle = ENDLESS;  // of the next
    int64_t t2 = 0;                    // stride of the outermost

    int64_t at(int64_t step) const {
        if (step < inner) return step * t;
        const int64_t row = step / inner;
        return step % inner * t + row % middle * t1 + row / middle * t2;
    }
    // Steps from this one on that lie t apart
    int64_t run(int64_t step) const { return step < inner ? inner - step : inner - step % inner; }
};

struct Activation {  // (B, D, L), or (B, R, L) for a low-rank delta
    void* p = nullptr;
    int64_t b = 0, d = 0;
    Path path;
    Dtype dtype = Dtype::f32;
};

struct Projection {  // B or C: (B, G, N, L[, 2]) of activations, or constant (D, N[, 2]) of states
    const void* p = nullptr;
    bool constant = false;
    int64_t groups = 1;
    int64_t b = 0, g = 0, n = 0, c = 0;  // g is the stride over channels if constant
    Path path;
};

struct States {  // (B, D, N[, 2]) of the state's dtype; b = 0 for A
    void* p = nullptr;
    int64_t b = 0, d = 0, n = 0, c = 0;
};

struct Vector {  // (D,) of the state's dtype
    const void* p = nullptr;
    int64_t d = 0;
};

struct Weight {  // delta_weight (D, R) of the state's dtype
    const void* p = nullptr;
    int64_t d = 0, r = 0;
};

// Cotangents that sum over channels or over batch and time: the kernel allocates and reduces its
// partial sums and writes these outputs. A null pointer means that nobody asked.
struct Cotangents {
    Activation v_out, v_u, v_delta, v_z;
    Activation sum;  // added to v_u before that is written
    States v_final_state, v_A, v_initial_state;
    Projection v_B, v_C;  // written; a constant one likewise
    Vector v_D, v_delta_bias;
    Weight v_delta_weight;
};

struct Params {
    Dtype dtype = Dtype::f32;
    bool is_complex = false, delta_softplus = false;
    int64_t batch = 0, channels = 0, length = 0, states = 0;
    int64_t rank = 0;      // of the low-rank delta, 0 without
    int64_t interval = 0;  // steps between checkpoints, 0 for none
    Activation u, delta, z, out;
    Activation sum;  // added to out before that is written: what other traversals gave
    States A, initial_state, final_state;
    Projection B, C;
    Vector D, delta_bias;
    Weight delta_weight;
    void* checkpoints = nullptr;     // (B, ceil(L / interval) - 1, N', D) of the state's dtype
    int64_t checkpoints_stride = 0;  // between batch entries
    Cotangents grad;
    int threads = 1;
    void (*parallel)(int64_t count, const void* context,
                     void (*body)(const void*, int64_t)) = nullptr;
};

}  // namespace ssno::selective_scan

// One pair for each instruction set; the wide registers of AVX-512 serve 16 floats, its 256-bit
// form 8, which wastes less where fewer channels share B and C.
#define SSNO_DECLARE(isa)                                        \
    namespace ssno::isa {                                        \
    void selective_scan_forward(const selective_scan::Params&);  \
    void selective_scan_backward(const selective_scan::Params&); \
    }
SSNO_DECLARE(avx512)
SSNO_DECLARE(avx512vl)
SSNO_DECLARE(avx2)
SSNO_DECLARE(plain)
#undef SSNO_DECLARE
