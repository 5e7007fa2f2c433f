// SPDX-License-Identifier: MIT
// cross_selective_scan_fwd_cpu and cross_selective_scan_bwd_cpu; see tensors.h.
#include <torch/csrc/stable/library.h>

#include "cross_selective_scan/entries.h"
#include "cross_selective_scan/tensors.h"

namespace {

using namespace ssno;

struct Cpu {
    using BatchSum = selective_scan::BatchSum;
    static Tensor fresh(const Tensor& t) { return advised(t); }
    static void run(std::vector<selective_scan::Params> sweeps, bool forward, const Tensor&) {
        for (selective_scan::Params& p : sweeps) selective_scan::set_threads(p);
        selective_scan::run(sweeps, forward);
    }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ssno_kernels, CPU, m) {
    m.impl("cross_selective_scan_fwd_cpu", TORCH_BOX(&cross_selective_scan::forward<Cpu>));
    m.impl("cross_selective_scan_bwd_cpu", TORCH_BOX(&cross_selective_scan::backward<Cpu>));
}
