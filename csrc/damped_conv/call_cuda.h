// SPDX-License-Identifier: MIT
// What the CUDA kernels of the damped convolution are told, and their launchers.
#pragma once

#include <functional>

#include "damped_conv/params.h"

namespace ssno::damped_conv {

// Real numbers other than rate and v_rate are of the state's dtype.
struct Problem : Convolution {
    bool tf32 = false;               // products of float32 on the tensor cores
    int forward = 0, backward = -1;  // which sweep starts at the first sample, at the last; or -1
    const void* coeff = nullptr;     // (S, H, N, 2), contiguous
    const void* skip = nullptr;      // D (H,)
    int64_t skip_stride = 0;
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
