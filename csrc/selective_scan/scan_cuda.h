// SPDX-License-Identifier: MIT
// What the CUDA kernels of the selective scan are told: one sweep (params.h), and how it is laid on
// blocks and threads.
//
// A block sweeps a tile of channels that read the same B and C over one chunk of time, or over a
// few chunks side by side where channels are few or where a traversal visits neighbours in memory a
// chunk apart. A row is one channel of one chunk; S lanes of a warp share a row and hold NT states
// each. The steps of a row pass through shared memory a tile at a time.
#pragma once

#include "selective_scan/params.h"

namespace ssno::selective_scan {

struct Steps {  // strides of the three counters that all tensors of a sweep share
    int64_t t = 0, t1 = 0, t2 = 0;
};

struct Rows {  // an activation
    char* p = nullptr;
    int64_t b = 0, d = 0;
    Steps step;
    Dtype dtype = Dtype::f32;
};

enum class Order { steps_and_states, along_steps, along_states };  // the latter by 16 bytes

struct Plane {  // B or C; constant: d is the stride over channels, else over groups
    char* p = nullptr;
    bool constant = false;
    int64_t b = 0, d = 0, n = 0, c = 0;
    int64_t share = 1;                      // channels of a group
    Order order = Order::steps_and_states;  // in which threads read it
    Steps step;
};

// Tensors that lie along time. B and C come last.
enum Along { U, DELTA, Z, OUT, SUM, V_OUT, V_U, V_DELTA, V_Z, ALONG_B, ALONG_C, ALONG };
constexpr int ROWS = ALONG_B;

// Which threads of a block move which elements between global and shared memory
struct Mapping {
    bool vector = false;    // 16 bytes along time at once
    bool by_chunk = false;  // neighbours in memory are rows of the same channel
    int log_rows = 0;       // rows that a warp has side by side, the rest of it along time
};

// Where things lie in shared memory: in bytes
struct Places {
    int table = 0, count = 0;        // offsets along time; numbers of steps
    int D = 0, bias = 0;             // of the channels
    int dt = 0, x = 0, y = 0;        // rows of steps; x is dt u
    int B = 0, C = 0;                // of a tile of states
    int v_y = 0, v_dt = 0, v_x = 0;  // rows of steps: also the sums over states of (S9)
    int states = 0, products = 0, columns = 0, constants = 0;  // see kernel_cuda_bwd.h
    int bytes = 0;
};

// Sums of the planes of partial sums, of a parameter's shape and of a variable B's or C's
struct ParameterSum {
    const void* parts = nullptr;  // (count, rows, channels); a row m is state m / numbers
    void* out = nullptr;
    int64_t count = 0, rows = 0, channels = 0, numbers = 1;
    int64_t d = 0, n = 0, c = 0;  // strides of `out`
};
struct PlaneSum {
    const void* parts = nullptr;  // (B, groups, tiles, L, rows)
    Plane out;
    int64_t batch = 0, groups = 1, tiles = 0, length = 0, rows = 0, numbers = 1;
    int64_t inner = Path::ENDLESS, middle = Path::ENDLESS;
};

struct Carried {  // states between chunks (and tiles), (B, chunks, N', D), and the chunks' decays
    void* state = nullptr;
    void* decay = nullptr;
};

struct Scan {
    int64_t batch = 0, channels = 0, length = 0, states = 0, rank = 0;
    int64_t inner = Path::ENDLESS, middle = Path::ENDLESS;
    bool softplus = false;
    Rows row[ROWS];
    Plane B, C;
    States A, initial, final;
    Vector D, bias;
    Weight weight;

    int64_t runs = 1, per_run = 1, blocks = 1;  // see plan.h
    int64_t chunks = 1, chunk = 0, chunk_blocks = 1, units = 0, grid = 0;
    int threads = 0, log_channels = 0, log_chunks = 0, log_steps = 0, pitch = 0;
    Mapping in, out;
    Places at;
    int64_t interval = 0, checkpoints_stride = 0;
    void* checkpoints = nullptr;
    Carried carried;
    bool through_memory = false;  // states pass from tile to tile through `carried`

    // of the backward; what is null is not wanted
    States v_initial;
    int64_t tiles = 0;            // of an interval, less one
    void* tile_states = nullptr;  // (grid, tiles, N', rows)
    void* v_A = nullptr;          // partial sums, (B, chunks, N', D)
    void* v_B = nullptr;          // the same if constant, else (B, runs, blocks, L, N')
    void* v_C = nullptr;
    void* v_D = nullptr;     // (B, chunks, D)
    void* v_bias = nullptr;  // (B, chunks, D)
    void* v_w = nullptr;     // (B, chunks, R, D)
    void* v_low = nullptr;   // (B, runs, blocks, L, R), of a low-rank delta
};

constexpr int64_t FEW = 4;  // states

// How many states a thread holds, and how many threads a row has. Fewer lanes to a row leave fewer
// sums over lanes; the adjoint keeps a few steps of its states in registers, and a double takes
// two.
struct Shape {
    int NT, S, parts;
};
constexpr Shape SHAPES[2][2][3] = {
    // for many states, for few, for complex ones
    {{{8, 2, 1}, {4, 1, 1}, {4, 2, 2}}, {{4, 4, 1}, {4, 1, 1}, {2, 4, 2}}},
    {{{4, 2, 1}, {2, 2, 1}, {2, 2, 2}}, {{2, 4, 1}, {2, 2, 1}, {1, 4, 2}}},  // of doubles
};
inline int which_shape(int64_t states, bool is_complex) {
    return is_complex ? 2 : states <= FEW ? 1 : 0;
}
// Of the backward: steps whose states it has in registers, and steps between its sums over channels
constexpr int Q = 8, F = 4;

}  // namespace ssno::selective_scan

namespace ssno::cuda {

// Launches by dtype: T computes, E lies in memory (kernel_cuda.h; an instance each has its file).
template <class T, class E>
void run_sweep(const selective_scan::Scan& scan, bool is_complex, bool backward, void* stream);
template <class T, class E>
void run_sums(const selective_scan::ParameterSum (&parameters)[6],
              const selective_scan::PlaneSum (&planes)[3], void* stream);

}  // namespace ssno::cuda
