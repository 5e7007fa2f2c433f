// SPDX-License-Identifier: MIT
// The names of ssno/cuda.h on the host. A block runs at a time; each of its threads is a fiber,
// which runs until it waits at a barrier or a shuffle. Found, and thrown by launch as
// std::runtime_error: two threads at one element of shared memory between barriers, one of them
// writing; shared memory read before it was written or beyond what was asked for; a barrier that
// not all threads reach.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <type_traits>

#define SSNO_KERNEL(threads, blocks) [[maybe_unused]] static void
#define SSNO_CONSTANT const
#define SSNO_DEVICE inline
#define SSNO_BOTH inline

namespace ssno::cuda {

constexpr int WARP = 32;
constexpr int64_t BLOCKS_OF_ROW = 4;  // so that small grids have rows

namespace host {

using Where = std::source_location;

// The position of the thread that runs.
struct Position {
    int thread, block_y, block_z;
    int64_t block_x;
};
extern Position here;

void run(Grid grid, int threads, int64_t shared_bytes, const std::function<void()>& kernel);
void wait_block(Where where);
void wait_warp(Where where);
// Deposit x and wait for the lanes of the warp; then slot(lane) is what that lane deposited.
uint64_t exchange(uint64_t x, int from, Where where);
// Deposit both and wait for the lanes of the warp; what lane i deposited is at [i].
struct Fragment {
    float a[4], b[2];
};
const Fragment* exchange(const Fragment& fragment, Where where);
// Checked; the address of `bytes` bytes of the block's shared memory.
unsigned char* read(int64_t offset, int bytes, Where where);
unsigned char* write(int64_t offset, int bytes, Where where);
void copy_later(int64_t offset, const void* from, Where where);
void commit();
void finish_copies(int groups_left);

template <class T>
T from_lane(T x, int from, Where where) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    uint64_t raw = 0;
    std::memcpy(&raw, &x, sizeof x);
    raw = exchange(raw, from, where);
    std::memcpy(&x, &raw, sizeof x);
    return x;
}

}  // namespace host

inline int thread() { return host::here.thread; }
inline int lane() { return thread() % WARP; }
inline int warp() { return thread() / WARP; }
inline int64_t block_x() { return host::here.block_x; }
inline int block_y() { return host::here.block_y; }
inline int block_z() { return host::here.block_z; }

inline void sync_block(host::Where where = host::Where::current()) { host::wait_block(where); }
inline void sync_warp(host::Where where = host::Where::current()) { host::wait_warp(where); }

template <class T>
T shuffle(T x, int from, host::Where where = host::Where::current()) {
    return host::from_lane(x, from % WARP, where);
}
template <class T>
T shuffle_up(T x, int by, host::Where where = host::Where::current()) {
    return host::from_lane(x, lane() < by ? lane() : lane() - by, where);
}
template <class T>
T shuffle_down(T x, int by, host::Where where = host::Where::current()) {
    return host::from_lane(x, lane() + by < WARP ? lane() + by : lane(), where);
}
template <class T>
T shuffle_xor(T x, int mask, host::Where where = host::Where::current()) {
    return host::from_lane(x, lane() ^ mask, where);
}

template <class T>
T computed(T x) {
    return x;
}

inline float exp2_fast(float x) { return x < -126 ? 0 : std::exp2(x); }
inline float with_bits(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
inline uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}
inline float round_tf32(float x) { return std::isfinite(x) ? with_bits(bits_of(x) + 0x1000) : x; }
inline float kept_tf32(float x) { return with_bits(bits_of(x) & 0xffffe000); }
inline float rest_tf32(float x) { return std::isfinite(x) ? x - kept_tf32(x) : 0; }
inline void mma_tf32(float (&d)[4], const float (&a)[4], const float (&b)[2],
                     host::Where where = host::Where::current()) {
    const host::Fragment mine{{kept_tf32(a[0]), kept_tf32(a[1]), kept_tf32(a[2]), kept_tf32(a[3])},
                              {kept_tf32(b[0]), kept_tf32(b[1])}};
    const host::Fragment* of = host::exchange(mine, where);
    for (int i = 0; i < 4; ++i)
        for (int k = 0; k < 8; ++k) {
            const int row = lane() / 4, column = lane() % 4 * 2 + i % 2;
            d[i] += of[row * 4 + k % 4].a[k / 4 * 2 + i / 2] * of[column * 4 + k % 4].b[k / 4];
        }
}

inline float fma(float a, float b, float c) { return std::fma(a, b, c); }
inline double fma(double a, double b, double c) { return std::fma(a, b, c); }

inline double widen(double x) { return x; }
inline float widen(float x) { return x; }
inline float widen(bf16 x) {
    const uint32_t i = static_cast<uint32_t>(x.bits) << 16;
    float y;
    std::memcpy(&y, &i, 4);
    return y;
}
inline float widen(f16 x) {
    _Float16 y;
    std::memcpy(&y, &x, 2);
    return static_cast<float>(y);
}
inline void narrow(double x, double& y) { y = x; }
inline void narrow(float x, float& y) { y = x; }
inline void narrow(float x, bf16& y) {
    uint32_t i;
    std::memcpy(&i, &x, 4);
    y.bits = x != x ? 0x7fff : static_cast<uint16_t>((i + 0x7fff + ((i >> 16) & 1)) >> 16);
}
inline void narrow(float x, f16& y) {
    const _Float16 rounded = static_cast<_Float16>(x);
    std::memcpy(&y, &rounded, 2);
}

// Copied through memory of the pack's alignment, so that UndefinedBehaviorSanitizer sees one that
// the device would refuse.
template <class T>
Pack<T> load16(const T* p) {
    return *reinterpret_cast<const Pack<T>*>(p);
}
template <class T>
void store16(T* p, const Pack<T>& x) {
    *reinterpret_cast<Pack<T>*>(p) = x;
}

template <class T>
class Shared {
  public:
    explicit Shared(int64_t offset) : offset_(offset) {}
    Shared operator+(int64_t elements) const {
        return Shared(offset_ + elements * static_cast<int64_t>(sizeof(T)));
    }
    T load(int64_t i, host::Where where = host::Where::current()) const {
        T x;
        std::memcpy(&x, host::read(at(i), sizeof x, where), sizeof x);
        return x;
    }
    void store(int64_t i, T x, host::Where where = host::Where::current()) const {
        std::memcpy(host::write(at(i), sizeof x, where), &x, sizeof x);
    }
    Pack<T> load16(int64_t i, host::Where where = host::Where::current()) const {
        Pack<T> x;
        std::memcpy(&x, host::read(at(i), sizeof x, where), sizeof x);
        return x;
    }
    void store16(int64_t i, const Pack<T>& x, host::Where where = host::Where::current()) const {
        std::memcpy(host::write(at(i), sizeof x, where), &x, sizeof x);
    }
    int64_t at(int64_t i) const { return offset_ + i * static_cast<int64_t>(sizeof(T)); }

  private:
    int64_t offset_;
};

template <class T>
Shared<T> shared(int64_t offset) {
    return Shared<T>(offset);
}

// The copy is made when it is waited for, so that a wait that is missing shows.
template <class T>
void copy_async16(Shared<T> to, int64_t i, const T* from,
                  host::Where where = host::Where::current()) {
    host::copy_later(to.at(i), from, where);
}
inline void copy_commit() { host::commit(); }
template <int N>
void copy_wait() {
    host::finish_copies(N);
}

// Of a small device, so that small tensors reach what depends on its size.
inline int64_t multiprocessors() { return 2; }
inline int64_t shared_limit() { return 99 << 10; }

template <class... P>
void launch(void (*kernel)(P...), Grid grid, int threads, int64_t shared_bytes, void*,
            const std::type_identity_t<P>&... parameters) {
    host::run(grid, threads, shared_bytes, [&] { kernel(parameters...); });
}

}  // namespace ssno::cuda
