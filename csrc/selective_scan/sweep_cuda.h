// SPDX-License-Identifier: MIT
// What the sweeps share: a thread's states, where they come from and go to, sums over lanes.
#pragma once

#include "selective_scan/stage_cuda.h"
#include "ssno/scan_step.h"

namespace ssno::cuda {

template <class K>
using Numbers = typename K::Num[K::NT];

// Where a thread's states lie in a tensor (..., N', D) or States; which of them exist.
template <class K>
struct Mine {
    int64_t n;  // its first state
    SSNO_DEVICE Mine(const Unit& unit, int64_t n0) : n(n0 + unit.s * K::NT) {}
    SSNO_DEVICE bool has(const Scan& scan, const Unit& unit, int i) const {
        return unit.exists && n + i < scan.states;
    }
};

template <class K>
SSNO_DEVICE void load_states(const Scan& scan, const Unit& unit, const Mine<K>& mine,
                             const States& from, Numbers<K>& h) {
    using T = typename K::T;
    const T* p = static_cast<const T*>(from.p);
    if (p != nullptr) p += unit.b * from.b + unit.d * from.d;
#pragma unroll
    for (int i = 0; i < K::NT; ++i)
#pragma unroll
        for (int c = 0; c < K::PARTS; ++c)
            h[i].part[c] = p != nullptr && mine.has(scan, unit, i)
                               ? p[(mine.n + i) * from.n + c * from.c]
                               : T(0);
}

template <class K>
SSNO_DEVICE void store_states(const Scan& scan, const Unit& unit, const Mine<K>& mine,
                              const States& to, const Numbers<K>& h) {
    using T = typename K::T;
    T* p = static_cast<T*>(to.p) + unit.b * to.b + unit.d * to.d;
#pragma unroll
    for (int i = 0; i < K::NT; ++i)
#pragma unroll
        for (int c = 0; c < K::PARTS; ++c)
            if (mine.has(scan, unit, i)) p[(mine.n + i) * to.n + c * to.c] = h[i].part[c];
}

// Plane `index` of (..., N', D) as a State whose batch stride is not used
template <class K>
SSNO_DEVICE States plane_of(const Scan& scan, const void* p, int64_t index) {
    using T = typename K::T;
    const int64_t size = scan.states * K::PARTS * scan.channels;
    return {const_cast<T*>(static_cast<const T*>(p)) + index * size, 0, 1, scan.channels * K::PARTS,
            scan.channels};
}

template <class K>
using Rates = Rate<typename K::T, K::X>[K::NT];

template <class K>
SSNO_DEVICE void load_rates(const Scan& scan, const Unit& unit, const Mine<K>& mine,
                            Rates<K>& rate) {
    using T = typename K::T;
    Numbers<K> A;
    load_states<K>(scan, unit, mine, scan.A, A);
#pragma unroll
    for (int i = 0; i < K::NT; ++i) Rate<T, K::X>::split(A[i].part, rate[i].part, 1);
}

// The thread's numbers of B or C at one step
template <class K>
SSNO_DEVICE void load_numbers(Shared<typename K::T> from, int at, Numbers<K>& x) {
    typename K::T v[K::NT * K::PARTS];
    get(from, at, v);
#pragma unroll
    for (int i = 0; i < K::NT * K::PARTS; ++i) x[i / K::PARTS].part[i % K::PARTS] = v[i];
}

// Keeps a thread's numbers in shared memory; `slot` counts threads.
template <class K>
SSNO_DEVICE void put_numbers(Shared<typename K::T> to, int slot, const Numbers<K>& x) {
    typename K::T v[K::NT * K::PARTS];
#pragma unroll
    for (int i = 0; i < K::NT * K::PARTS; ++i) v[i] = x[i / K::PARTS].part[i % K::PARTS];
    put(to, slot * (K::NT * K::PARTS), v);
}

// Sums of M values over S lanes side by side: lane s is left with sums s M/S to (s+1) M/S - 1, or
// all lanes with the one sum of M = 1.
template <int S, class T, int M>
SSNO_DEVICE void sum_lanes(T (&v)[M]) {
    const int s = thread() % S;
    int count = M;
#pragma unroll
    for (int bit = S / 2; bit > 0; bit /= 2) {
        if (count > 1) {
            count /= 2;
#pragma unroll
            for (int i = 0; i < M / 2; ++i) {
                if (i >= count) continue;
                const bool upper = s & bit;
                const T keep = upper ? v[i + count] : v[i], give = upper ? v[i] : v[i + count];
                v[i] = keep + shuffle_xor(give, bit);
            }
        } else {
            v[0] += shuffle_xor(v[0], bit);
        }
    }
}

// Adds to rows of steps.
template <class T, int V>
SSNO_DEVICE void accumulate(Shared<T> rows, int at, const T (&x)[V]) {
    T sum[V];
    get(rows, at, sum);
#pragma unroll
    for (int i = 0; i < V; ++i) sum[i] += x[i];
    put(rows, at, sum);
}

}  // namespace ssno::cuda
