// SPDX-License-Identifier: MIT
#include "damped_conv/launch_cuda.h"

namespace ssno::damped_conv {

template void run<Double>(const Problem&, bool, const Allocate&, void*);

}  // namespace ssno::damped_conv
