// SPDX-License-Identifier: MIT
// The CUDA kernels of the selective scan, as PyTorch's side calls them.
#pragma once

#include <initializer_list>

#include "selective_scan/scan_cuda.h"

namespace ssno::selective_scan {

// One sweep on the caller's stream, in two calls: what it needs of memory beyond its results, and
// the launch with that memory. Nothing waits for the device.
class CudaSweep {
  public:
    CudaSweep(const Params& p, bool backward);
    int64_t scratch_bytes() const { return scratch_; }
    void launch(void* scratch, void* stream);

  private:
    void lay_out(const Params& p);
    void tile();
    void cut();
    int64_t least_chunk() const;
    bool wide(const char* p, const Steps& step, int64_t size,
              std::initializer_list<int64_t> strides) const;
    Mapping mapping(std::initializer_list<int> tensors) const;
    Order order(const Plane& M) const;
    const Shape& shape() const;
    int64_t assign(char* memory);
    void sum_up(void* stream) const;

    Scan scan_;
    Cotangents grad_;
    Plane v_B_, v_C_, v_low_;
    Dtype dtype_;
    bool complex_, backward_;
    int64_t scratch_ = 0;
};

}  // namespace ssno::selective_scan
