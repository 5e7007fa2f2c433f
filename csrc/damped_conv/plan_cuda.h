// SPDX-License-Identifier: MIT
// How the CUDA kernels cut the work. A chunk is T samples of a line; a tile is a matrix of C chunks
// of one channel, as many whole lines as fit or one segment of a line longer than that. Within a
// chunk the convolution is a T x T Toeplitz matrix; a chunk adds to the states of 16 modes at a
// time by a T x 32 table, and is read out of them by a 32 x T table. States run over the chunks of
// a tile within the block, over segments by a kernel of their own.
//
// A walk goes through the chunks of a line from the first or the last. It takes samples in by the
// powers of lambda of as many steps as are yet to come in the chunk, and is read out by those of as
// many as have been: a sweep's are lambda^e and 2 coeff lambda^(e+1), its adjoint's are those two
// changed over, and its walk is the other way. A last, short chunk is therefore taken in late, that
// is moved to the end of its place, by a walk from the first chunk, and read out late by one from
// the last.
#pragma once

#include "damped_conv/call_cuda.h"
#include "ssno/cuda.h"

namespace ssno::damped_conv {

constexpr int THREADS = 128;
constexpr int MODES = 16;           // of a block
constexpr int NUMBERS = 2 * MODES;  // real and imaginary parts, next to each other
constexpr int SUMS = 3 * NUMBERS;   // of a block of modes in the backward
constexpr int DECAYS = 8;           // of a mode: four complex numbers
// lambda^T, lambda^(samples of a line's last chunk), 1 / (1 - lambda^L), 2 coeff lambda
enum Which { WHOLE, REST, CLOSED, GAIN };

// The four kinds of tiles: T, C, and where products run.
template <class T_, int STEPS_, int COLUMNS_, bool MMA_>
struct Kind {
    using T = T_;
    static constexpr int STEPS = STEPS_, COLUMNS = COLUMNS_;
    static constexpr bool MMA = MMA_;
    // between rows: of a multiple of 16 bytes, and such that few threads meet in a bank
    static constexpr int PAD = MMA ? 8 : 4;
    static constexpr int PITCH = COLUMNS + PAD, PITCH_IN = NUMBERS + 8, PITCH_OUT = STEPS + 8;
};
using Double = Kind<double, 32, 64, false>;
using Short = Kind<float, 16, 128, false>;  // lines of up to 16 samples
using Exact = Kind<float, 64, 64, false>;
using Tensor32 = Kind<float, 64, 64, true>;

// States, or what lies between segments
struct StateArray : Array {
    int64_t segment = 0;     // stride
    bool conjugate = false;  // of the walk's states
};

struct Tables {  // of each sweep, channel and block of modes, but for `lags`, which are a channel's
    void *in_power = nullptr, *in_gain = nullptr;    // (T, 32), row e: lambda^e; the gains
    void *out_power = nullptr, *out_gain = nullptr;  // (32, T), in the order of the walk's samples
    double* decays = nullptr;                        // of each mode
    void* lags = nullptr;                            // 2 T - 1, and one that is not used
};

// What all kernels of a call know.
struct Task {
    Dtype dtype = Dtype::f32;
    int sweeps = 1, forward = 0, backward = -1;
    bool periodic = false;        // and lines are whole in a tile
    bool shift = false;           // whether it matters where a short chunk lies
    bool along_time = true;       // samples are closer in memory than lines
    bool channels_first = false;  // and channels are closest
    int64_t channels = 0, rows = 0, length = 0, modes = 0;
    int axes = 0;
    int64_t size[MAX_AXES] = {};
    int lines = 1;                       // of a tile
    int stop = 0;                        // no chunk has a sample there or later
    int bits = 0;                        // of the number of samples that are loaded of a chunk
    int64_t groups = 1;                  // of lines
    int64_t segments = 1;                // of a line; if more than one, lines is 1
    int64_t all_blocks = 0, blocks = 0;  // of modes; 0 where no chunk starts from a state
    Tables table;

    SSNO_BOTH int64_t tiles() const { return groups * segments; }
};

// A launch has as many rows of blocks as it takes, the last one not full.
constexpr int64_t BLOCKS_OF_ROW = 1 << 30;
SSNO_DEVICE int64_t block_number() { return cuda::block_y() * BLOCKS_OF_ROW + cuda::block_x(); }
inline cuda::Grid grid_of(int64_t blocks) {
    const int64_t rows = (blocks + BLOCKS_OF_ROW - 1) / BLOCKS_OF_ROW;
    return {rows > 1 ? BLOCKS_OF_ROW : blocks, rows};
}

SSNO_BOTH int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Where a line begins
SSNO_DEVICE int64_t row_offset(const Task& task, const Array& a, int64_t row) {
    int64_t offset = 0;
#pragma unroll 1
    for (int i = task.axes - 1; i > 0; --i) {
        offset += row % task.size[i] * a.row[i];
        row /= task.size[i];
    }
    return offset + row * a.row[0];
}

}  // namespace ssno::damped_conv
