// SPDX-License-Identifier: MIT
// Which instruction set the kernels may use on this machine, decided at run time.
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace ssno {

enum Isa : int { kPlain = 0, kAvx2 = 1, kAvx512 = 2 };

inline Isa hardware_isa() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c")) {
        const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
        return wide ? kAvx512 : kAvx2;
    }
#endif
    return kPlain;
}

// SSNO_ISA (avx512, avx2 or plain) lowers the choice; it never exceeds what the processor has.
inline Isa cpu_isa() {
    const Isa best = hardware_isa();
    const char* variable = std::getenv("SSNO_ISA");
    const std::string wanted = variable ? variable : "";
    if (wanted.empty()) return best;
    Isa isa = kPlain;
    if (wanted == "avx512") {
        isa = kAvx512;
    } else if (wanted == "avx2") {
        isa = kAvx2;
    } else if (wanted != "plain") {
        throw std::runtime_error("SSNO_ISA is '" + wanted + "'; expected avx512, avx2 or plain");
    }
    return isa < best ? isa : best;
}

}  // namespace ssno
