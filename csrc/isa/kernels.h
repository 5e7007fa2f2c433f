// SPDX-License-Identifier: MIT
// All kernels that are compiled once for each instruction set.
#pragma once

#include "rates/kernel_cpu.h"
#include "selective_scan/kernel_cpu.h"
