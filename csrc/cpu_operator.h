// SPDX-License-Identifier: MIT
// What the CPU operators share on PyTorch's side: threads, huge pages.
#pragma once

#include <torch/csrc/stable/ops.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "operator.h"

namespace ssno {

inline void run_parallel(int64_t count, const void* context, void (*body)(const void*, int64_t)) {
    torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) body(context, i);
    });
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
