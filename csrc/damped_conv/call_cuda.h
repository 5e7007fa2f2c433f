// SPDX-License-Identifier: MIT
// What the CUDA kernels of the damped convolution are told, and their launchers.
#pragma once

#include <functional>

#include "damped_conv/params.h"

namespace ssno::damped_conv {

// A null pointer means that there is none, or that nobody asked. Real numbers other than rate and
// v_rate are of the state's dtype.
struct Problem {
    Dtype dtype = Dtype::f32;
    bool tf32 = false;  // products of float32 on the tensor cores
    int sweeps = 1;
    int forward = 0, backward = -1;  // which sweep starts at the first sample, at the last; or -1
    bool periodic = false;
    int64_t channels = 0, rows = 0, length = 0, modes = 0;
    int axes = 0;  // that rows are counted over, the last one fastest
    int64_t size[MAX_AXES] = {};
    const double* rate = nullptr;  // (S, H, N, 2), contiguous
    const void* coeff = nullptr;   // (S, H, N, 2), contiguous
    const void* skip = nullptr;    // D (H,)
    int64_t skip_stride = 0;
    Array u, out, initial_state, final_state;
    Array v_out, v_u, v_final_state, v_initial_state;
    void *v_rate = nullptr, *v_coeff = nullptr, *v_skip = nullptr;  // contiguous
};

// So many bytes on the device, for as long as the launch takes
using Allocate = std::function<void*(int64_t)>;

// For one kind of tiles (plan_cuda.h)
template <class K>
void run(const Problem& p, bool backward, const Allocate& allocate, void* stream);

void forward_cuda(const Problem& p, const Allocate& allocate, void* stream);
void backward_cuda(const Problem& p, const Allocate& allocate, void* stream);

}  // namespace ssno::damped_conv
