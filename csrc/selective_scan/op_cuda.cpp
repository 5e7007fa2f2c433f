// SPDX-License-Identifier: MIT
// selective_scan_fwd_cuda and selective_scan_bwd_cuda; see tensors.h.
#include "selective_scan/call_cuda.h"

namespace {

using namespace ssno;
using namespace ssno::selective_scan;

struct Cuda {
    static Tensor fresh(const Tensor& t) { return t; }
    static void run(const Params& p, bool forward, const Tensor& like) {
        run_on_device(p, forward, like);
    }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ssno_kernels, SSNO_CUDA_KEY, m) {
    m.impl("selective_scan_fwd_cuda", TORCH_BOX(&forward<Cuda>));
    m.impl("selective_scan_bwd_cuda", TORCH_BOX(&backward<Cuda>));
}
