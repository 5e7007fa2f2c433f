// SPDX-License-Identifier: MIT
// What runs beside the sweeps: the states between chunks, and the sums of partial sums. The order
// of every sum is fixed.
#pragma once

#include "selective_scan/stage_cuda.h"

namespace ssno::cuda {

// Puts the state that enters each chunk in the place of its end, chunk after chunk from `first` on
// by `step`. A thread has one state.
template <class T, bool X>
SSNO_KERNEL(128, 4)
link_chunks(const Scan scan, const States outer, const int64_t first, const int64_t step) {
    constexpr int PARTS = X ? 2 : 1;
    const int64_t i = block_number() * 128 + thread(), plane = scan.states * scan.channels;
    if (i >= scan.batch * plane) return;
    const int64_t b = i / plane, n = i % plane / scan.channels, d = i % scan.channels;
    Number<T, X> now;
    for (int c = 0; c < PARTS; ++c)
        now.part[c] = outer.p == nullptr
                          ? T(0)
                          : static_cast<const T*>(
                                outer.p)[b * outer.b + d * outer.d + n * outer.n + c * outer.c];
    T* const state = static_cast<T*>(scan.carried.state);
    const T* const decay = static_cast<const T*>(scan.carried.decay);
#pragma unroll 4
    for (int64_t j = 0; j < scan.chunks; ++j) {
        const int64_t chunk = b * scan.chunks + first + j * step;
        const int64_t at = (chunk * scan.states + n) * PARTS * scan.channels + d;
        const auto a = Number<T, X>::load(decay + at, scan.channels);
        const auto end = Number<T, X>::load(state + at, scan.channels);
        now.store(state + at, scan.channels);
        now = mul(a, now) + end;
    }
}

constexpr int SUM_LANES = 32, SUM_PLANES = 8;  // of a block

template <class T>
SSNO_KERNEL(SUM_LANES* SUM_PLANES, 4)
sum_parameter(const ParameterSum s) {
    const int64_t i = block_number() * SUM_LANES + thread() % SUM_LANES, size = s.rows * s.channels;
    const int mine = thread() / SUM_LANES;
    T sum = 0;
    if (i < size)
#pragma unroll 4
        for (int64_t j = mine; j < s.count; j += SUM_PLANES)
            sum += static_cast<const T*>(s.parts)[j * size + i];
    const Shared<T> sums = shared<T>(0);
    sums.store(thread(), sum);
    sync_block();
    if (mine > 0 || i >= size) return;
    for (int j = 1; j < SUM_PLANES; ++j) sum += sums.load(j * SUM_LANES + thread());
    const int64_t m = i / s.channels, d = i % s.channels;
    static_cast<T*>(s.out)[d * s.d + m / s.numbers * s.n + m % s.numbers * s.c] = sum;
}

template <class T, class E>
SSNO_KERNEL(256, 4)
sum_plane(const PlaneSum s) {
    const int64_t i = block_number() * 256 + thread(), size = s.length * s.rows;
    if (i >= s.batch * s.groups * size) return;
    const int64_t bg = i / size, t = i % size / s.rows, m = i % s.rows;
    const T* p = static_cast<const T*>(s.parts) + bg * s.tiles * size + i % size;
    T sum = 0;
#pragma unroll 4
    for (int64_t j = 0; j < s.tiles; ++j) sum += p[j * size];
    const int64_t row = t / s.inner;
    const int64_t at = t % s.inner * s.out.step.t + row % s.middle * s.out.step.t1 +
                       row / s.middle * s.out.step.t2 + bg / s.groups * s.out.b +
                       bg % s.groups * s.out.d + m / s.numbers * s.out.n + m % s.numbers * s.out.c;
    narrow(sum, reinterpret_cast<E*>(s.out.p)[at]);
}

}  // namespace ssno::cuda
