// SPDX-License-Identifier: MIT
// The kernels in 16-byte vectors of whatever the compiler's baseline has (SSE2, NEON).
#define SSNO_ISA plain
#define SSNO_VECTOR_BYTES 16
#include SSNO_KERNELS  // "<op>/kernel_cpu.h"
