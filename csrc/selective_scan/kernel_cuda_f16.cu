// SPDX-License-Identifier: MIT
#include "selective_scan/kernel_cuda.h"

namespace ssno::cuda {

template void run_sweep<float, f16>(const Scan&, bool, bool, void*);
template void run_sums<float, f16>(const ParameterSum (&)[6], const PlaneSum (&)[3], void*);

}  // namespace ssno::cuda
