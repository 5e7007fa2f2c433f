// SPDX-License-Identifier: MIT
// Which kind of tiles serves a call.
#include "damped_conv/plan_cuda.h"

namespace ssno::damped_conv {

namespace {

void dispatch(const Problem& p, bool backward, const Allocate& allocate, void* stream) {
    if (p.dtype == Dtype::f64) return run<Double>(p, backward, allocate, stream);
    if (p.length <= Short::STEPS) return run<Short>(p, backward, allocate, stream);
    if (p.dtype == Dtype::f32 && !p.tf32) return run<Exact>(p, backward, allocate, stream);
    run<Tensor32>(p, backward, allocate, stream);
}

}  // namespace

void forward_cuda(const Problem& p, const Allocate& allocate, void* stream) {
    dispatch(p, false, allocate, stream);
}
void backward_cuda(const Problem& p, const Allocate& allocate, void* stream) {
    dispatch(p, true, allocate, stream);
}

}  // namespace ssno::damped_conv
