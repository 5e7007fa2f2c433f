// SPDX-License-Identifier: MIT
// Scratch memory of a thread.
#pragma once

#include <cstdint>
#include <new>

#include "ssno/vec.h"

namespace ssno::SSNO_ISA {

// Uninitialised memory on a cache line's boundary.
template <class T>
class Buffer {
  public:
    explicit Buffer(int64_t size)
        : p_(size > 0 ? static_cast<T*>(::operator new(size * sizeof(T), std::align_val_t{64}))
                      : nullptr) {}
    ~Buffer() { ::operator delete(p_, std::align_val_t{64}); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    operator T*() const { return p_; }

  private:
    T* p_;
};

}  // namespace ssno::SSNO_ISA
