// SPDX-License-Identifier: MIT
// Where a tile lies in shared memory, and how it gets there from a tensor and back.
#pragma once

#include <algorithm>
#include <cstdint>

#include "alias_free_activation/params.h"
#include "ssno/cuda.h"

namespace ssno::alias_free_activation {

constexpr int THREADS = 256;

// n / by for 0 <= n < 2^16, by one multiplication.
struct Divider {
    uint32_t by = 1, magic = 1u << 31;

    Divider() = default;
    explicit Divider(int64_t d)
        : by(static_cast<uint32_t>(d)), magic(static_cast<uint32_t>(((1ll << 31) + d - 1) / d)) {}
};

// A buffer's part: (channels, D, H, W), its rows and channels odd numbers of elements apart, so
// that threads side by side touch different banks. `more`: elements of a row that are only loaded.
struct Box {
    int n[AXES] = {1, 1, 1}, more = 0;

    int stride(int axis) const {
        const int row = (n[2] + more) | 1;
        return axis == 2 ? 1 : axis == 1 ? row : n[1] * row;
    }
    int channel() const { return (n[0] * stride(0)) | 1; }
    Box with(int axis, int size) const {
        Box box = *this;
        box.n[axis] = size;
        if (axis == 2) box.more = 0;
        return box;
    }
};

// Between a buffer and a tensor, its dimensions from the fastest in memory on: W, H, D, channels,
// or channels, W, H, D. A thread moves `width` elements of a row at a time: 16 bytes if all such
// lie wholly inside or outside of the tensor, and of the tile that is written; else one. The
// threads are shared out as lanes along a row and rows.
struct Transfer {
    static constexpr int DIMS = AXES + 1, CHANNELS = AXES;
    int width = 1, columns, lanes, rows;  // `columns` of a row
    Divider by_lanes, by_second;
    int dim[DIMS], n[DIMS], at[DIMS];  // `dim`: an axis or CHANNELS; `at`: strides in the buffer
    int64_t stride[DIMS], size[DIMS], batch;
    void* p;

    Transfer() = default;
    // As many samples of the buffer as `tile` says.
    Transfer(const Box& b, const Box& tile, int channels, const Field& f, const int64_t* sizes,
             const Params& params, bool wide, bool written)
        : batch(f.b), p(f.p) {
        const bool first = f.c < f.g[2];
        for (int i = 0; i < DIMS; ++i) {
            dim[i] = CHANNELS;
            if (first ? i > 0 : i < CHANNELS) dim[i] = AXES - 1 - (i - first);
            const bool axis = dim[i] < AXES;
            n[i] = axis ? tile.n[dim[i]] : channels;
            at[i] = axis ? b.stride(dim[i]) : b.channel();
            stride[i] = axis ? f.g[dim[i]] : f.c;
            size[i] = axis ? sizes[dim[i]] : params.channels;
        }
        const int pack = pack_size(params.dtype);
        const bool whole = written || first;  // rows begin with 16 bytes
        if (wide && aligned(pack, params.batch) && !(whole && n[0] % pack != 0)) width = pack;
        columns = (n[0] + (whole ? 0 : 2 * (width - 1))) / width;
        lanes = std::min(columns, THREADS);
        rows = THREADS / lanes;
        by_lanes = Divider(lanes);
        by_second = Divider(n[1]);
    }

    static int pack_size(Dtype dtype) {
        return dtype == Dtype::f64 ? 2 : dtype == Dtype::f32 ? 4 : 8;
    }

  private:
    bool aligned(int pack, int64_t batches) const {
        constexpr int64_t MOST = int64_t(1) << 31;  // for offsets of 32 bits in a tile
        int64_t reach = n[0];
        bool all = reinterpret_cast<uintptr_t>(p) % 16 == 0 && stride[0] == 1 &&
                   size[0] % pack == 0 && (batches == 1 || batch % pack == 0);
        for (int i = 1; i < DIMS; ++i) {
            all = all && (size[i] == 1 || stride[i] % pack == 0);
            reach += n[i] * std::min(stride[i], MOST);
        }
        return all && reach < MOST;
    }
};

}  // namespace ssno::alias_free_activation
