// SPDX-License-Identifier: MIT
// What a kernel of the alias-free activation is told: pointers, sizes, and strides in elements. The
// grid always has three axes here; those that the tensors lack come first, have size 1, and pass
// unfiltered.
#pragma once

#include <cstdint>

#include "ssno/dtypes.h"

namespace ssno::alias_free_activation {

enum class Act { leaky_relu, silu, gelu, tanh };  // in the order of arguments.ACTIVATIONS

constexpr int AXES = 3;

struct Field {  // (B, C, *grid)
    void* p = nullptr;
    int64_t b = 0, c = 0, g[AXES] = {};
};

struct Vector {  // of the dtype of sums
    const void* p = nullptr;
    int64_t size = 0, stride = 0;
};

struct Params {
    Dtype dtype = Dtype::f32;
    Act act = Act::leaky_relu;
    int64_t batch = 0, channels = 0;
    bool filtered[AXES] = {};
    int64_t n[AXES] = {1, 1, 1}, m[AXES] = {1, 1, 1};  // samples of x and of out
    int64_t low[AXES] = {};                            // padding below
    int64_t up = 1, down = 1;
    Vector up_filter, down_filter, bias;
    double negative_slope = 0, gain = 1;
    Field x, out;
    Field v_out, v_x;        // the backward's; v_x may be null
    void* v_bias = nullptr;  // (C,), contiguous, or null
    int threads = 1;
    void (*parallel)(int64_t count, const void* context,
                     void (*body)(const void*, int64_t)) = nullptr;
};

}  // namespace ssno::alias_free_activation

#define SSNO_DECLARE(isa)                                                      \
    namespace ssno::isa {                                                      \
    void alias_free_activation_forward(const alias_free_activation::Params&);  \
    void alias_free_activation_backward(const alias_free_activation::Params&); \
    }
SSNO_DECLARE(avx512)
SSNO_DECLARE(avx512vl)
SSNO_DECLARE(avx2)
SSNO_DECLARE(plain)
#undef SSNO_DECLARE
