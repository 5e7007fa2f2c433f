// SPDX-License-Identifier: MIT
// Stacks to switch between. x86-64 gets a switch of its own, since swapcontext calls the kernel of
// the operating system twice each time; AddressSanitizer is told of every switch.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
extern "C" void ssno_host_cuda_switch(void** from, void* to);
#endif

namespace ssno::cuda::host {

class Fiber {
  public:
    static constexpr size_t STACK = 256 << 10, GUARD = 4096;

    // `entry` never returns.
    explicit Fiber(void (*entry)()) {
        memory_ = static_cast<char*>(mmap(nullptr, STACK + GUARD, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (memory_ == MAP_FAILED) throw std::bad_alloc();
        mprotect(memory_, GUARD, PROT_NONE);
#if defined(__x86_64__)
        void** top = reinterpret_cast<void**>(memory_ + GUARD + STACK) - 2;
        *top = reinterpret_cast<void*>(entry);
        inside_ = top - 6;  // the registers that the switch restores
#else
        getcontext(&inside_);
        inside_.uc_stack.ss_sp = memory_ + GUARD;
        inside_.uc_stack.ss_size = STACK;
        makecontext(&inside_, entry, 0);
#endif
    }
    ~Fiber() {
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(memory_ + GUARD, STACK);
#endif
        munmap(memory_, STACK + GUARD);
    }
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    // Run it until it leaves.
    void enter() {
#if defined(__SANITIZE_ADDRESS__)
        void* fake = nullptr;
        __sanitizer_start_switch_fiber(&fake, memory_ + GUARD, STACK);
        change(outside_, inside_);
        __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
        change(outside_, inside_);
#endif
    }
    // From within: back to where it was entered.
    void leave() {
#if defined(__SANITIZE_ADDRESS__)
        void* fake = nullptr;
        __sanitizer_start_switch_fiber(&fake, bottom_, size_);
        change(inside_, outside_);
        begun(fake);
#else
        change(inside_, outside_);
#endif
    }
    // The first thing that `entry` calls.
    void begun([[maybe_unused]] void* fake = nullptr) {
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(fake, &bottom_, &size_);
#endif
    }

  private:
#if defined(__x86_64__)
    using Context = void*;
    static void change(Context& from, Context& to) { ssno_host_cuda_switch(&from, to); }
#else
    using Context = ucontext_t;
    static void change(Context& from, Context& to) { swapcontext(&from, &to); }
#endif
    char* memory_;
    Context inside_, outside_;
#if defined(__SANITIZE_ADDRESS__)
    const void* bottom_ = nullptr;
    size_t size_ = 0;
#endif
};

}  // namespace ssno::cuda::host
