// SPDX-License-Identifier: MIT
// cross_selective_scan_fwd_cuda and cross_selective_scan_bwd_cuda; see tensors.h.
#include "cross_selective_scan/tensors.h"
#include "selective_scan/call_cuda.h"

namespace {

using namespace ssno;

// The kernels sum over the batch themselves.
class Whole {
  public:
    Whole(const Tensor& sum, const selective_scan::Params&, bool) : sum_(sum) {}
    Tensor first() const { return sum_; }
    void finish() const {}

  private:
    Tensor sum_;
};

struct Cuda {
    using BatchSum = Whole;
    static Tensor fresh(const Tensor& t) { return t; }
    static void run(const std::vector<selective_scan::Params>& sweeps, bool forward,
                    const Tensor& like) {
        for (const selective_scan::Params& p : sweeps)
            selective_scan::run_on_device(p, forward, like);
    }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(ssno_kernels, SSNO_CUDA_KEY, m) {
    m.impl("cross_selective_scan_fwd_cuda", TORCH_BOX(&cross_selective_scan::forward<Cuda>));
    m.impl("cross_selective_scan_bwd_cuda", TORCH_BOX(&cross_selective_scan::backward<Cuda>));
}
