// SPDX-License-Identifier: MIT
// A sweep's memory, its launch, and the sums after it.
#include "selective_scan/launch_cuda.h"
#include "ssno/cuda.h"

namespace ssno::selective_scan {

using namespace ssno::cuda;

// Hands out memory for states between chunks and partial sums; returns how many bytes it is.
int64_t CudaSweep::assign(char* memory) {
    Scan& s = scan_;
    const Cotangents& g = grad_;
    const int64_t size = dtype_ == Dtype::f64 ? 8 : 4, numbers = complex_ ? 2 : 1;
    const int64_t chunks = s.batch * s.chunks, tiles = s.batch * s.runs * s.blocks;
    const int64_t states = s.states * numbers;
    int64_t end = 0;
    const auto take = [&](bool wanted, int64_t count) -> void* {
        if (!wanted || count == 0) return nullptr;
        const int64_t begin = end;
        end += (count * size + 255) / 256 * 256;
        return memory == nullptr ? nullptr : memory + begin;
    };
    const bool through_memory = s.states > shape().NT * shape().S;
    s.carried.state =
        take(backward_ || s.chunks > 1 || through_memory, chunks * states * s.channels);
    s.carried.decay = take(s.chunks > 1, chunks * states * s.channels);
    if (!backward_) return end;
    s.tile_states = take(true, s.grid * s.tiles * states * (s.threads / shape().S));
    s.v_A = take(g.v_A.p != nullptr, chunks * states * s.channels);
    s.v_D = take(g.v_D.p != nullptr, chunks * s.channels);
    s.v_bias = take(g.v_delta_bias.p != nullptr, chunks * s.channels);
    s.v_w = take(g.v_delta_weight.p != nullptr, chunks * s.rank * s.channels);
    s.v_low = take(s.rank > 0 && g.v_delta.p != nullptr, tiles * s.length * s.rank);
    const auto projection = [&](const Projection& v, bool constant) {
        return take(v.p != nullptr, states * (constant ? chunks * s.channels : tiles * s.length));
    };
    s.v_B = projection(g.v_B, s.B.constant);
    s.v_C = projection(g.v_C, s.C.constant);
    return end;
}

void CudaSweep::sum_up(void* stream) const {
    const Scan& s = scan_;
    const Cotangents& g = grad_;
    const int64_t numbers = complex_ ? 2 : 1, chunks = s.batch * s.chunks;
    ParameterSum parameters[6];
    PlaneSum planes[3];
    const auto parameter = [&](int i, const void* parts, const void* out, int64_t rows, int64_t d,
                               int64_t n, int64_t c) {
        parameters[i] = {
            parts, const_cast<void*>(out), chunks, rows, s.channels, c == 0 ? 1 : numbers, d, n, c};
    };
    parameter(0, s.v_A, g.v_A.p, s.states * numbers, g.v_A.d, g.v_A.n, g.v_A.c);
    parameter(1, s.v_D, g.v_D.p, 1, g.v_D.d, 0, 0);
    parameter(2, s.v_bias, g.v_delta_bias.p, 1, g.v_delta_bias.d, 0, 0);
    parameter(3, s.v_w, g.v_delta_weight.p, s.rank, g.v_delta_weight.d, g.v_delta_weight.r, 0);
    const auto plane = [&](int i, const void* parts, const Plane& out, int64_t groups, int64_t rows,
                           int64_t of) {
        planes[i] = {parts,    out,  s.batch, groups,  s.runs / groups * s.blocks,
                     s.length, rows, of,      s.inner, s.middle};
    };
    const auto projection = [&](int i, const void* parts, const Projection& v, const Plane& out) {
        const int64_t rows = s.states * numbers;
        if (out.constant)
            parameter(4 + i, parts, v.p, rows, v.g, v.n, v.c);
        else
            plane(i, parts, out, v.groups, rows, numbers);
    };
    projection(0, s.v_B, g.v_B, v_B_);
    projection(1, s.v_C, g.v_C, v_C_);
    plane(2, s.v_low, v_low_, 1, s.rank, 1);
    switch (dtype_) {
        case Dtype::f64:
            return run_sums<double, double>(parameters, planes, stream);
        case Dtype::f32:
            return run_sums<float, float>(parameters, planes, stream);
        case Dtype::bf16:
            return run_sums<float, bf16>(parameters, planes, stream);
        case Dtype::f16:
            return run_sums<float, f16>(parameters, planes, stream);
    }
}

void CudaSweep::launch(void* scratch, void* stream) {
    assign(static_cast<char*>(scratch));
    if (scan_.units > 0) {
        const auto run = [&](auto sweep) { sweep(scan_, complex_, backward_, stream); };
        if (dtype_ == Dtype::f64) run(run_sweep<double, double>);
        if (dtype_ == Dtype::f32) run(run_sweep<float, float>);
        if (dtype_ == Dtype::bf16) run(run_sweep<float, bf16>);
        if (dtype_ == Dtype::f16) run(run_sweep<float, f16>);
    }
    if (backward_) sum_up(stream);
}

}  // namespace ssno::selective_scan
