// SPDX-License-Identifier: MIT
// The kinds of kernels, and their launches for one dtype of activations.
#pragma once

#include "selective_scan/kernel_cuda_bwd.h"
#include "selective_scan/kernel_cuda_fwd.h"
#include "selective_scan/reduce_cuda.h"

namespace ssno::selective_scan {

constexpr int64_t FEW = 4;  // states
constexpr int64_t MOST_NUMBERS = 16;  // of a row's states, that the forward keeps in registers

// Lanes that share a row in the kernels for so many states
inline int lanes_of_row(int64_t states, bool is_complex, bool backward) {
    if (!is_complex && states <= FEW) return 1;
    return backward ? 4 : 2;
}

}  // namespace ssno::selective_scan

namespace ssno::cuda {

// Fewer lanes to a row leave fewer sums over lanes, more of them registers for the adjoint.
template <class T, class E>
struct Kinds {
    using Forward = Kind<T, E, false, 8, 2>;
    using ForwardFew = Kind<T, E, false, 4, 1>;
    using ForwardComplex = Kind<T, E, true, 4, 2>;
    using Backward = Kind<T, E, false, 4, 4>;
    using BackwardFew = Kind<T, E, false, 4, 1>;
    using BackwardComplex = Kind<T, E, true, 2, 4>;
};

template <class K>
void set_places(Scan& scan, bool backward) {
    using T = typename K::T;
    Places at;
    int64_t end = 0;
    const auto take = [&](int64_t numbers, int64_t size = sizeof(T)) {
        const int64_t begin = end;
        end += (numbers * size + 15) / 16 * 16;
        return static_cast<int>(begin);
    };
    const int64_t chunks = int64_t(1) << scan.log_chunks, steps = int64_t(1) << scan.log_steps;
    const int64_t channels = int64_t(1) << scan.log_channels;
    const int64_t rows = chunks * (channels * scan.pitch + K::PAD);
    at.table = take(ALONG * chunks * steps, 8);
    at.D = take(channels);
    at.bias = take(channels);
    at.dt = take(rows);
    at.x = take(rows);
    const auto plane = [&](const Plane& M) {
        return take(M.constant ? channels * K::PITCH : chunks * (steps * K::PITCH + K::PAD));
    };
    at.B = plane(scan.B);
    at.C = plane(scan.C);
    if (!backward || scan.row[V_Z].p != nullptr) at.y = take(rows);
    if (backward) {
        const int64_t numbers = K::NT * K::PARTS, warps = scan.threads / WARP;
        at.v_y = take(rows);
        at.v_dt = take(rows);
        at.v_x = take(rows);
        at.states = take((steps + Q - 1) / Q * scan.threads * numbers);
        at.products = take(warps * Products<K>::SIZE);
        at.columns = take(warps * Q * 2 * K::WIDTH);
        if (scan.B.constant || scan.C.constant) at.constants = take(2 * scan.threads * numbers);
    }
    at.bytes = static_cast<int>(end);
    scan.at = at;
}

template <class K>
void link(const Scan& scan, const States& outer, bool adjoint, void* stream) {
    const int64_t count = scan.batch * scan.states * scan.channels;
    launch(link_chunks<typename K::T, K::X>, {(count + 127) / 128}, 128, 0, stream, scan, outer,
           adjoint ? scan.chunks - 1 : 0, int64_t(adjoint ? -1 : 1));
}

template <class K>
void run_forward(Scan scan, void* stream) {
    set_places<K>(scan, false);
    static_assert(K::WIDTH <= MOST_NUMBERS);
    scan.through_memory = scan.states > K::TILE;
    if (scan.chunks > 1) {
        launch(scan_ends<K>, {scan.units}, scan.threads, scan.at.bytes, stream, scan);
        link<K>(scan, scan.initial, false, stream);
    }
    launch(scan_forward<K>, {scan.units}, scan.threads, scan.at.bytes, stream, scan);
}

template <class K>
void run_backward(Scan scan, void* stream) {
    set_places<K>(scan, true);
    if (scan.chunks > 1) {
        launch(scan_adjoint_ends<K>, {scan.units}, scan.threads, scan.at.bytes, stream, scan);
        link<K>(scan, scan.final, true, stream);
    }
    launch(scan_backward<K>, {scan.grid}, scan.threads, scan.at.bytes, stream, scan);
}

template <class T, class E>
void run_sweep(const Scan& scan, bool is_complex, bool backward, void* stream) {
    using All = Kinds<T, E>;
    if (is_complex)
        return backward ? run_backward<typename All::BackwardComplex>(scan, stream)
                        : run_forward<typename All::ForwardComplex>(scan, stream);
    if (scan.states <= FEW)
        return backward ? run_backward<typename All::BackwardFew>(scan, stream)
                        : run_forward<typename All::ForwardFew>(scan, stream);
    return backward ? run_backward<typename All::Backward>(scan, stream)
                    : run_forward<typename All::Forward>(scan, stream);
}

template <class T, class E>
void run_sums(const ParameterSum (&parameters)[6], const PlaneSum (&planes)[3], void* stream) {
    for (const ParameterSum& s : parameters)
        if (s.out != nullptr && s.rows * s.channels > 0)
            launch(sum_parameter<T>, {(s.rows * s.channels + SUM_LANES - 1) / SUM_LANES},
                   SUM_LANES * SUM_PLANES, SUM_LANES * SUM_PLANES * sizeof(T), stream, s);
    for (const PlaneSum& s : planes) {
        const int64_t count = s.batch * s.groups * s.length * s.rows;
        if (s.out.p != nullptr && count > 0)
            launch(sum_plane<T, E>, {(count + 255) / 256}, 256, 0, stream, s);
    }
}

}  // namespace ssno::cuda
