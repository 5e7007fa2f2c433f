// SPDX-License-Identifier: MIT
// The CUDA kernels' launchers. `scratch` allocates so many numbers of the dtype of sums, on the
// device, for as long as the launch takes; it is called if v_bias is asked for.
#pragma once

#include <functional>

#include "alias_free_activation/params.h"

namespace ssno::alias_free_activation {

void forward_cuda(const Params& p, void* stream);
void backward_cuda(const Params& p, const std::function<void*(int64_t)>& scratch, void* stream);

}  // namespace ssno::alias_free_activation
