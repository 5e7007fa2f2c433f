// SPDX-License-Identifier: MIT
// How the operators that run the scan's CUDA kernels call them.
#pragma once

#include "cuda_operator.h"
#include "selective_scan/launch_cuda.h"
#include "selective_scan/tensors.h"

namespace ssno::selective_scan {

// On the current stream of the device that `like` is on
inline void run_on_device(const Params& p, bool forward, const Tensor& like) {
    const OnDevice device(like);
    CudaSweep sweep(p, !forward);
    const Tensor scratch = empty(like, {sweep.scratch_bytes()}, ScalarType::Byte);
    sweep.launch(scratch.data_ptr(), device.stream());
}

}  // namespace ssno::selective_scan
