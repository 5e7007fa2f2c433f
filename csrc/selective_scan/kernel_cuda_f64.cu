// SPDX-License-Identifier: MIT
#include "selective_scan/kernel_cuda.h"

namespace ssno::cuda {

template void run_sweep<double, double>(const Scan&, bool, bool, void*);
template void run_sums<double, double>(const ParameterSum (&)[6], const PlaneSum (&)[3], void*);

}  // namespace ssno::cuda
