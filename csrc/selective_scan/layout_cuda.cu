// SPDX-License-Identifier: MIT
// How a sweep is laid on the device: tensors on common counters, tiles, chunks, lanes.
#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "selective_scan/launch_cuda.h"
#include "ssno/cuda.h"

namespace ssno::selective_scan {

using namespace ssno::cuda;

namespace {

constexpr int LOG_STEPS = 6, LEAST_LOG_STEPS = 3;  // of a tile
constexpr int64_t SIDE_BY_SIDE = 8;                // chunks, where those are neighbours in memory
// Warps on a multiprocessor: from how many on time is not cut, and how many cutting it aims at
constexpr int64_t ENOUGH_WARPS = 4, WANTED_WARPS = 12;

int log2_ceil(int64_t x) {
    int log = 0;
    while (int64_t(1) << log < x) ++log;
    return log;
}

Rows to_rows(const Activation& a, Dtype dtype) {
    Rows r;
    r.p = static_cast<char*>(a.p);
    r.b = a.b;
    r.d = a.d;
    r.dtype = a.p == nullptr ? dtype : a.dtype;
    return r;
}

Plane to_plane(const Projection& m, int64_t channels) {
    Plane r;
    r.p = static_cast<char*>(const_cast<void*>(m.p));
    r.constant = m.constant;
    r.b = m.b;
    r.d = m.g;
    r.n = m.n;
    r.c = m.c;
    r.share = channels / m.groups;
    return r;
}

Steps steps_of(const Path& path, int64_t inner, int64_t middle) {
    Steps s{path.t, 0, 0};
    if (inner < Path::ENDLESS) s.t1 = path.at(inner);
    if (middle < Path::ENDLESS) s.t2 = path.at(inner * middle);
    return s;
}

bool runs_along(const Steps& s) { return s.t == 1 || s.t == -1; }

// What lies where in shared memory; a thread has `shape` of numbers of `size` bytes.
Places places_of(const Scan& scan, const Shape& shape, int64_t size, bool backward) {
    Places at;
    int64_t end = 0;
    const auto take = [&](int64_t bytes) {
        const int64_t begin = end;
        end += (bytes + 15) / 16 * 16;
        return static_cast<int>(begin);
    };
    const int64_t chunks = int64_t(1) << scan.log_chunks, steps = int64_t(1) << scan.log_steps;
    const int64_t channels = int64_t(1) << scan.log_channels, pad = 16 / size;
    const int64_t mine = shape.NT * shape.parts, width = mine * shape.S,
                  warps = scan.threads / WARP;
    const int64_t rows = chunks * (channels * scan.pitch + pad) * size;
    at.table = take(ALONG * chunks * steps * 8);
    at.count = take(chunks * 4);
    at.D = take(channels * size);
    at.bias = take(channels * size);
    at.dt = take(rows);
    at.x = take(rows);
    const auto plane = [&](const Plane& M) {
        const int64_t pitch = width + pad;
        return take((M.constant ? channels * pitch : chunks * (steps * pitch + pad)) * size);
    };
    at.B = plane(scan.B);
    at.C = plane(scan.C);
    if (!backward || scan.row[V_Z].p != nullptr) at.y = take(rows);
    if (backward) {
        at.v_y = take(rows);
        at.v_dt = take(rows);
        at.v_x = take(rows);
        at.states = take((steps + Q - 1) / Q * scan.threads * mine * size);
        at.products = take(warps * 2 * F * (WARP / shape.S + 1) * width * size);
        at.columns = take(warps * Q * 2 * width * size);
        if (scan.B.constant || scan.C.constant) at.constants = take(2 * scan.threads * mine * size);
    }
    at.bytes = static_cast<int>(end);
    return at;
}

}  // namespace

CudaSweep::CudaSweep(const Params& p, bool backward)
    : grad_(p.grad), dtype_(p.dtype), complex_(p.is_complex), backward_(backward) {
    Scan& s = scan_;
    const Cotangents& g = p.grad;
    s.batch = p.batch;
    s.channels = p.channels;
    s.length = p.length;
    s.states = p.states;
    s.rank = p.rank;
    s.softplus = p.delta_softplus;
    s.A = p.A;
    s.D = p.D;
    s.bias = p.delta_bias;
    s.weight = p.delta_weight;
    s.initial = p.initial_state;
    s.final = backward ? g.v_final_state : p.final_state;
    s.v_initial = g.v_initial_state;
    s.interval = p.interval;
    s.checkpoints = p.checkpoints;
    s.checkpoints_stride = p.checkpoints_stride;
    lay_out(p);
    tile();
    cut();
    if (backward) {
        scan_.in = mapping({U, DELTA, V_OUT, Z});
        scan_.out = mapping({V_U, V_DELTA, V_Z, SUM, U, DELTA, V_OUT, Z});
    } else {
        scan_.in = mapping({U, DELTA});
        scan_.out = mapping({OUT, SUM, Z});
    }
    s.B.order = order(s.B);
    s.C.order = order(s.C);
    scratch_ = assign(nullptr);
}

// Tensors along time, on the counters that all of them share. A traversal's path through one tensor
// merges the axes it can; the counters are those that no tensor merges.
void CudaSweep::lay_out(const Params& p) {
    Scan& s = scan_;
    const Cotangents& g = p.grad;
    const Activation none;
    const Activation* rows[ROWS] = {&p.u,
                                    &p.delta,
                                    &p.z,
                                    &p.out,
                                    backward_ ? &g.sum : &p.sum,
                                    &g.v_out,
                                    &g.v_u,
                                    p.rank > 0 ? &none : &g.v_delta,
                                    &g.v_z};
    const Projection* planes[4] = {&p.B, &p.C, &g.v_B, &g.v_C};
    std::vector<const Path*> paths;
    for (const Activation* a : rows)
        if (a->p != nullptr) paths.push_back(&a->path);
    for (const Projection* m : planes)
        if (m->p != nullptr && !m->constant) paths.push_back(&m->path);
    if (g.v_delta.p != nullptr) paths.push_back(&g.v_delta.path);
    std::vector<int64_t> ends;
    for (const Path* path : paths) {
        if (path->inner == Path::ENDLESS) continue;
        ends.push_back(path->inner);
        if (path->middle < Path::ENDLESS) ends.push_back(path->inner * path->middle);
    }
    std::sort(ends.begin(), ends.end());
    ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
    if (!ends.empty()) s.inner = ends[0];
    if (ends.size() > 1) s.middle = ends[1] / ends[0];
    for (int i = 0; i < ROWS; ++i) {
        s.row[i] = to_rows(*rows[i], p.dtype);
        s.row[i].step = steps_of(rows[i]->path, s.inner, s.middle);
    }
    const auto plane = [&](const Projection& m) {
        Plane r = to_plane(m, p.channels);
        if (!m.constant) r.step = steps_of(m.path, s.inner, s.middle);
        return r;
    };
    s.B = plane(p.B);
    s.C = plane(p.C);
    v_B_ = plane(g.v_B);
    v_C_ = plane(g.v_C);
    v_low_.p = p.rank > 0 ? static_cast<char*>(g.v_delta.p) : nullptr;
    v_low_.b = g.v_delta.b;
    v_low_.n = g.v_delta.d;
    v_low_.step = steps_of(g.v_delta.path, s.inner, s.middle);
}

// The tile of a block: channels, steps, and chunks side by side where a traversal's neighbours in
// memory are a chunk apart; as much of it as shared memory holds.
void CudaSweep::tile() {
    Scan& s = scan_;
    const Shape& shape = this->shape();
    const int64_t in_B = s.B.constant ? s.channels : s.B.share;
    const int64_t in_C = s.C.constant ? s.channels : s.C.share;
    s.per_run = std::gcd(in_B, in_C);
    s.runs = s.channels / s.per_run;
    const int least = log2_ceil(WARP / shape.S);  // a warp's rows are of one chunk
    const Rows& u = s.row[U];
    if (s.inner < Path::ENDLESS && s.inner % least_chunk() == 0 &&
        s.length / s.inner >= SIDE_BY_SIDE && !runs_along(u.step) && u.d != 1 &&
        (u.step.t1 == 1 || u.step.t1 == -1)) {
        s.log_channels = least;
        s.log_chunks = log2_ceil(SIDE_BY_SIDE);
        s.log_steps = LOG_STEPS - 2;
    } else {
        s.log_channels = std::clamp(log2_ceil(s.per_run), least, least + 2);
        s.log_steps = std::clamp(log2_ceil(s.length), LEAST_LOG_STEPS, LOG_STEPS);
    }
    while (s.log_steps > LEAST_LOG_STEPS && s.interval % (int64_t(1) << s.log_steps) != 0)
        --s.log_steps;
    if (s.interval % (int64_t(1) << s.log_steps) != 0)
        throw std::invalid_argument("the interval between checkpoints is not a multiple of 8");
    const int size = dtype_ == Dtype::f64 ? 8 : 4;
    for (;;) {
        s.threads = shape.S << (s.log_channels + s.log_chunks);
        s.pitch = (1 << s.log_steps) + 16 / size;
        s.at = places_of(s, shape, size, backward_);
        if (s.at.bytes <= shared_limit()) break;
        int& log = s.log_steps > LEAST_LOG_STEPS ? s.log_steps
                   : s.log_chunks > 0            ? s.log_chunks
                                                 : s.log_channels;
        if (log == least && &log == &s.log_channels)
            throw std::runtime_error("the device has too little shared memory for the scan");
        --log;
    }
}

// A chunk is whole tiles and, for the adjoint, begins where a state was saved.
int64_t CudaSweep::least_chunk() const {
    return std::max<int64_t>(scan_.interval, int64_t(1) << LOG_STEPS);
}

// Time is cut where batch and channels do not fill the device, or where chunks lie side by side.
void CudaSweep::cut() {
    Scan& s = scan_;
    s.blocks = ((s.per_run - 1) >> s.log_channels) + 1;
    const int64_t unit = least_chunk(), device = multiprocessors();
    const int64_t warps = s.batch * s.runs * s.blocks * (shape().S << s.log_channels) / WARP;
    if (s.log_chunks > 0) {
        s.chunk = s.inner;
    } else {
        const int64_t chunks = warps == 0 || warps >= ENOUGH_WARPS * device
                                   ? 1
                                   : (WANTED_WARPS * device + warps - 1) / warps;
        s.chunk = ((s.length + chunks - 1) / chunks + unit - 1) / unit * unit;
    }
    s.chunks = (s.length + s.chunk - 1) / s.chunk;
    s.chunk_blocks = ((s.chunks - 1) >> s.log_chunks) + 1;
    s.units = s.batch * s.chunk_blocks * s.runs * s.blocks;
    const int64_t reach = std::min(s.interval, s.length);
    s.tiles = backward_ ? std::max<int64_t>((reach - 1) >> s.log_steps, 0) : 0;
    s.grid = s.tiles > 0 ? std::min(s.units, 4 * device) : s.units;
}

const Shape& CudaSweep::shape() const {
    return SHAPES[dtype_ == Dtype::f64][backward_][which_shape(scan_.states, complex_)];
}

// Whether 16 bytes along time can be read or written at once, of elements that lie `strides` apart
// from those that a tile begins with
bool CudaSweep::wide(const char* p, const Steps& step, int64_t size,
                     std::initializer_list<int64_t> strides) const {
    const int64_t V = 16 / element_size(dtype_);
    bool fits = scan_.inner == Path::ENDLESS || scan_.inner % V == 0;
    for (const int64_t stride : strides) fits &= stride % V == 0;
    const char* first = step.t == -1 ? p - (V - 1) * size : p;
    return fits && step.t1 % V == 0 && step.t2 % V == 0 &&
           reinterpret_cast<uintptr_t>(first) % 16 == 0;
}

// Which lanes move which elements: 16 bytes at once if all tensors allow it, else single elements,
// lanes side by side along time, along chunks or along channels, as the first tensor lies.
Mapping CudaSweep::mapping(std::initializer_list<int> tensors) const {
    const Scan& s = scan_;
    const Rows* main = nullptr;
    Mapping m;
    m.vector = true;
    for (const int i : tensors) {
        const Rows& r = s.row[i];
        if (r.p == nullptr) continue;
        if (main == nullptr) main = &r;
        const int64_t b = s.batch == 1 ? 0 : r.b, d = s.channels == 1 && s.rank <= 1 ? 0 : r.d;
        m.vector &= runs_along(r.step) && wide(r.p, r.step, element_size(r.dtype), {b, d});
    }
    const bool half = element_size(dtype_) == 2;
    const int log_groups = s.log_steps - log2_ceil(16 / element_size(dtype_));
    m.vector &= 5 - log_groups <= s.log_channels;
    const bool along = main == nullptr || runs_along(main->step);
    if (m.vector) {
        m.log_rows = std::max(5 - log_groups, 0);
    } else if (!along && s.log_chunks > 0 && 5 - s.log_chunks <= s.log_steps) {
        m.by_chunk = true;
        m.log_rows = s.log_chunks;
    } else {
        const int rows = std::min(s.log_channels, half ? 4 : 3);  // 32 bytes
        m.log_rows = std::max(along ? 0 : rows, 5 - s.log_steps);
    }
    return m;
}

Order CudaSweep::order(const Plane& M) const {
    const int64_t numbers = complex_ ? 2 : 1, size = element_size(dtype_);
    const int64_t b = scan_.batch == 1 ? 0 : M.b, d = scan_.channels == M.share ? 0 : M.d;
    if (!complex_ && runs_along(M.step) && wide(M.p, M.step, size, {b, d, M.n}))
        return Order::along_steps;
    const bool dense = M.n == numbers && (!complex_ || M.c == 1);
    const Steps onwards{0, M.step.t1, M.step.t2};
    if (dense && wide(M.p, onwards, size, {b, d, M.step.t})) return Order::along_states;
    return Order::steps_and_states;
}

}  // namespace ssno::selective_scan
