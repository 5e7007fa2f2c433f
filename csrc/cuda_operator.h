// SPDX-License-Identifier: MIT
// What the CUDA operators share on PyTorch's side: the device, the caller's stream, and the key
// they register under. With SSNO_HOST_CUDA the kernels run on the host and serve CPU tensors.
#pragma once

#include <torch/csrc/stable/library.h>

#include "operator.h"

#if defined(SSNO_HOST_CUDA)
#define SSNO_CUDA_KEY CPU
#else
#include <torch/csrc/stable/accelerator.h>
#define SSNO_CUDA_KEY CUDA
#endif

namespace ssno {

// Makes the tensor's device the current one for as long as it lives.
class OnDevice {
  public:
#if defined(SSNO_HOST_CUDA)
    explicit OnDevice(const Tensor&) {}
    void* stream() const { return nullptr; }
#else
    explicit OnDevice(const Tensor& t) : index_(t.get_device_index()), guard_(index_) {}
    void* stream() const {
        void* stream = nullptr;
        TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream));
        return stream;
    }

  private:
    int32_t index_;
    torch::stable::accelerator::DeviceGuard guard_;
#endif
};

}  // namespace ssno
