// SPDX-License-Identifier: MIT
// What operators share on PyTorch's side, whatever the device: dtypes, allocation.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <vector>

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
            STD_TORCH_CHECK(false, "a dtype that the kernels do not serve");
    }
    return Dtype::f32;
}

inline Tensor empty(const Tensor& like, const std::vector<int64_t>& sizes) {
    return torch::stable::new_empty(like, sizes);
}
inline Tensor empty(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType dtype) {
    return torch::stable::new_empty(like, sizes, dtype);
}

}  // namespace ssno
