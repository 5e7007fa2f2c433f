// SPDX-License-Identifier: MIT
// What the CPU operators share on PyTorch's side: dtypes, threads, allocation.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "ssno/dtypes.h"

namespace ssno {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using MaybeTensor = std::optional<Tensor>;

inline Dtype dtype_of(const Tensor& t) {
    switch (t.scalar_type()) {
        case ScalarType::Double:
            return Dtype::f64;
        case ScalarType::Float:
            return Dtype::f32;
        case ScalarType::BFloat16:
            return Dtype::bf16;
        case ScalarType::Half:
            return Dtype::f16;
        default:
            STD_TORCH_CHECK(false, "a dtype that the cpu kernels do not serve");
    }
    return Dtype::f32;
}

inline void run_parallel(int64_t count, const void* context, void (*body)(const void*, int64_t)) {
    torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) body(context, i);
    });
}

inline Tensor empty(const Tensor& like, const std::vector<int64_t>& sizes) {
    return torch::stable::new_empty(like, sizes);
}
inline Tensor empty(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType dtype) {
    return torch::stable::new_empty(like, sizes, dtype);
}

// Ask for huge pages behind a large new tensor: first touching it page by page would cost as much
// as a third of the sweep that fills it. A hint; where it is refused nothing changes.
inline Tensor advised(Tensor t) {
#if defined(__linux__)
    constexpr uintptr_t HUGE = uintptr_t(2) << 20;
    const auto begin = reinterpret_cast<uintptr_t>(t.data_ptr());
    const uintptr_t end = begin + static_cast<uintptr_t>(t.numel()) * element_size(dtype_of(t));
    const uintptr_t first = (begin + HUGE - 1) / HUGE * HUGE, last = end / HUGE * HUGE;
    if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
    return t;
}

}  // namespace ssno
