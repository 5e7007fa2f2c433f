// SPDX-License-Identifier: MIT
// Which variant of a kernel serves a call: by dtype, and by the filters. The links of MambaNO and
// CNO (6 taps a factor, factors 2 and 4) are known to the compiler, in all dtypes but float64.
#pragma once

#include <stdexcept>

#include "alias_free_activation/transfer_cuda.h"

namespace ssno::alias_free_activation {

// Whether the job could be done with these links.
template <class S, class U, class V, class Job>
bool run_with(const Params& p, const Job& job) {
    if (!U::fits(p.up_filter.size, p.up) || !V::fits(p.down_filter.size, p.down)) return false;
    const LinkSize u = U::size(p.up_filter.size, p.up), v = V::size(p.down_filter.size, p.down);
    const Planner planner(p, Job::BACKWARD, u, v);
    if (planner.fits()) job.template run<S, U, V>(planner, Task(planner.p, Job::BACKWARD, u, v));
    return planner.fits();
}

template <class S, class T, class Job>
bool run_any(const Params& p, const Job& job) {
    return run_with<S, AnyLink<T>, AnyLink<T>>(p, job);
}
template <class S, class Job>
bool run_float(const Params& p, const Job& job) {
    using By2 = FixedLink<float, 12, 2>;
    using By4 = FixedLink<float, 24, 4>;
    return run_with<S, By2, By2>(p, job) || run_with<S, By2, By4>(p, job) ||
           run_with<S, By4, By2>(p, job) || run_any<S, float>(p, job);
}

// job.run<S, U, V>(planner, task) with the type in memory and the links of x and of out.
template <class Job>
void dispatch(const Params& p, const Job& job) {
    const bool done = p.dtype == Dtype::f64    ? run_any<double, double>(p, job)
                      : p.dtype == Dtype::f32  ? run_float<float>(p, job)
                      : p.dtype == Dtype::bf16 ? run_float<cuda::bf16>(p, job)
                                               : run_float<cuda::f16>(p, job);
    if (!done) throw std::runtime_error("the filters are too long for the cuda kernels");
}

}  // namespace ssno::alias_free_activation
