// SPDX-License-Identifier: MIT
// What the extension says of itself. The operators' schemas are declared in Python
// (ops/<op>/function.py), their kernels registered in <op>/op_cpu.cpp.
#include <torch/csrc/stable/library.h>

#include <cstdint>

#include "ssno/isa.h"

namespace {

int64_t source_hash() { return SSNO_SOURCE_HASH; }
int64_t cpu_isa() { return ssno::cpu_isa(); }

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(ssno_kernels, m) {
    m.def("source_hash() -> int");
    m.def("cpu_isa() -> int");
}

STABLE_TORCH_LIBRARY_IMPL(ssno_kernels, CompositeExplicitAutograd, m) {
    m.impl("source_hash", TORCH_BOX(&source_hash));
    m.impl("cpu_isa", TORCH_BOX(&cpu_isa));
}
