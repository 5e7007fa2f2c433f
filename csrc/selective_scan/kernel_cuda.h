// SPDX-License-Identifier: MIT
// The kinds of kernels, and their launches for one dtype of activations.
#pragma once

#include "selective_scan/kernel_cuda_bwd.h"
#include "selective_scan/kernel_cuda_fwd.h"
#include "selective_scan/reduce_cuda.h"

namespace ssno::cuda {

template <class T, class E, bool Backward, int I>
using KindOf = Kind<T, E, I == 2, SHAPES[sizeof(T) == 8][Backward][I].NT,
                    SHAPES[sizeof(T) == 8][Backward][I].S>;

template <class K>
void link(const Scan& scan, const States& outer, bool adjoint, void* stream) {
    const int64_t count = scan.batch * scan.states * scan.channels;
    launch(link_chunks<typename K::T, K::X>, grid_of((count + 127) / 128), 128, 0, stream, scan,
           outer, adjoint ? scan.chunks - 1 : 0, int64_t(adjoint ? -1 : 1));
}

template <class K>
void run_forward(Scan scan, void* stream) {
    scan.through_memory = scan.states > K::TILE;
    if (scan.chunks > 1) {
        launch(scan_ends<K>, grid_of(scan.units), scan.threads, scan.at.bytes, stream, scan);
        link<K>(scan, scan.initial, false, stream);
    }
    launch(scan_forward<K>, grid_of(scan.units), scan.threads, scan.at.bytes, stream, scan);
}

template <class K>
void run_backward(Scan scan, void* stream) {
    if (scan.chunks > 1) {
        launch(scan_adjoint_ends<K>, grid_of(scan.units), scan.threads, scan.at.bytes, stream,
               scan);
        link<K>(scan, scan.final, true, stream);
    }
    launch(scan_backward<K>, grid_of(scan.grid), scan.threads, scan.at.bytes, stream, scan);
}

template <class T, class E>
void run_sweep(const Scan& scan, bool is_complex, bool backward, void* stream) {
    switch (which_shape(scan.states, is_complex)) {
        case 0:
            return backward ? run_backward<KindOf<T, E, true, 0>>(scan, stream)
                            : run_forward<KindOf<T, E, false, 0>>(scan, stream);
        case 1:
            return backward ? run_backward<KindOf<T, E, true, 1>>(scan, stream)
                            : run_forward<KindOf<T, E, false, 1>>(scan, stream);
        default:
            return backward ? run_backward<KindOf<T, E, true, 2>>(scan, stream)
                            : run_forward<KindOf<T, E, false, 2>>(scan, stream);
    }
}

template <class T, class E>
void run_sums(const ParameterSum (&parameters)[6], const PlaneSum (&planes)[3], void* stream) {
    for (const ParameterSum& s : parameters)
        if (s.out != nullptr && s.rows * s.channels > 0)
            launch(sum_parameter<T>, grid_of((s.rows * s.channels + SUM_LANES - 1) / SUM_LANES),
                   SUM_LANES * SUM_PLANES, SUM_LANES * SUM_PLANES * sizeof(T), stream, s);
    for (const PlaneSum& s : planes) {
        const int64_t count = s.batch * s.groups * s.length * s.rows;
        if (s.out.p != nullptr && count > 0)
            launch(sum_plane<T, E>, grid_of((count + 255) / 256), 256, 0, stream, s);
    }
}

}  // namespace ssno::cuda
