// SPDX-License-Identifier: MIT
// The dtypes in which activations lie in memory.
#pragma once

#include <cstdint>

namespace ssno {

enum class Dtype { f64, f32, bf16, f16 };

inline int64_t element_size(Dtype dtype) {
    return dtype == Dtype::f64 ? 8 : dtype == Dtype::f32 ? 4 : 2;
}

}  // namespace ssno
