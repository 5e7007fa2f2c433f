// SPDX-License-Identifier: MIT
// selective_scan_fwd_cpu and selective_scan_bwd_cpu; see tensors.h.
#include <torch/csrc/stable/library.h>

#include "selective_scan/call.h"

namespace {

using namespace ssno;
using namespace ssno::selective_scan;

struct Cpu {
    static Tensor fresh(const Tensor& t) { return advised(t); }
    static void run(Params p, bool forward, const Tensor&) {
        p.threads = static_cast<int>(torch::stable::get_num_threads());
        p.parallel = run_parallel;
        dispatch(p, forward);
    }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ssno_kernels, CPU, m) {
    m.impl("selective_scan_fwd_cpu", TORCH_BOX(&forward<Cpu>));
    m.impl("selective_scan_bwd_cpu", TORCH_BOX(&backward<Cpu>));
}
