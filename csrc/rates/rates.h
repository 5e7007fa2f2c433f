// SPDX-License-Identifier: MIT
// What a rate loop returns: a result, so that it cannot be optimised away, and how much it did.
#pragma once

#include <cstdint>

namespace ssno {

struct Work {
    double result, operations;
};

#define SSNO_DECLARE(isa)              \
    namespace isa {                    \
    Work exponentials(int64_t times);  \
    Work multiply_adds(int64_t times); \
    }
SSNO_DECLARE(avx512)
SSNO_DECLARE(avx512vl)
SSNO_DECLARE(avx2)
SSNO_DECLARE(plain)
#undef SSNO_DECLARE

}  // namespace ssno
