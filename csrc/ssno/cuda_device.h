// SPDX-License-Identifier: MIT
// The names of ssno/cuda.h on a device.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#define SSNO_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define SSNO_CONSTANT const __grid_constant__
#define SSNO_DEVICE __device__ __forceinline__
#define SSNO_BOTH __host__ __device__ inline

namespace ssno::cuda {

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int64_t BLOCKS_OF_ROW = 1 << 30;

SSNO_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
SSNO_DEVICE int lane() { return thread() % WARP; }
SSNO_DEVICE int warp() { return thread() / WARP; }
SSNO_DEVICE int64_t block_x() { return blockIdx.x; }
SSNO_DEVICE int block_y() { return static_cast<int>(blockIdx.y); }
SSNO_DEVICE int block_z() { return static_cast<int>(blockIdx.z); }

SSNO_DEVICE void sync_block() { __syncthreads(); }
SSNO_DEVICE void sync_warp() { __syncwarp(); }

template <class T>
SSNO_DEVICE T shuffle(T x, int from) {
    return __shfl_sync(ALL_LANES, x, from);
}
// From `by` lanes below, above, or across; lanes that have no such neighbour keep their value.
template <class T>
SSNO_DEVICE T shuffle_up(T x, int by) {
    return __shfl_up_sync(ALL_LANES, x, by);
}
template <class T>
SSNO_DEVICE T shuffle_down(T x, int by) {
    return __shfl_down_sync(ALL_LANES, x, by);
}
template <class T>
SSNO_DEVICE T shuffle_xor(T x, int mask) {
    return __shfl_xor_sync(ALL_LANES, x, mask);
}

SSNO_DEVICE int computed(int x) {
    asm("" : "+r"(x));
    return x;
}
template <class T>
SSNO_DEVICE T* computed(T* p) {
    asm("" : "+l"(p));
    return p;
}

SSNO_DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
// d (16, 8) += a (16, 8) b (8, 8). Of lane 4 g + q: a has rows g, g + 8 of column q, then of q + 4;
// b rows q, q + 4 of column g; d columns 2 q, 2 q + 1 of row g, then of g + 8.
SSNO_DEVICE void mma_tf32(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
          "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
}
SSNO_DEVICE float round_tf32(float x) {
    return fabsf(x) < INFINITY ? __uint_as_float(__float_as_uint(x) + 0x1000) : x;
}
// What mma_tf32 would drop.
SSNO_DEVICE float rest_tf32(float x) {
    const float kept = __uint_as_float(__float_as_uint(x) & 0xffffe000);
    return fabsf(x) < INFINITY ? x - kept : 0.0f;
}

SSNO_DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
SSNO_DEVICE double fma(double a, double b, double c) { return __fma_rn(a, b, c); }

SSNO_DEVICE double widen(double x) { return x; }
SSNO_DEVICE float widen(float x) { return x; }
SSNO_DEVICE float widen(bf16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
SSNO_DEVICE float widen(f16 x) {
#if __CUDA_ARCH__ < 1000
    return __half2float(__ushort_as_half(x.bits));
#else  // by its bits: nvcc 13.0 spills where many halves wait for their conversion
    const unsigned low = x.bits & 0x7fff, sign = (x.bits & 0x8000u) << 16;
    const float finite = __uint_as_float(low << 13) * 0x1p112f;
    const unsigned y = low < 0x7c00 ? __float_as_uint(finite) : 0x7f800000 | low << 13;
    return __uint_as_float(y | sign);
#endif
}
SSNO_DEVICE void narrow(double x, double& y) { y = x; }
SSNO_DEVICE void narrow(float x, float& y) { y = x; }
SSNO_DEVICE void narrow(float x, bf16& y) { y.bits = __bfloat16_as_ushort(__float2bfloat16(x)); }
SSNO_DEVICE void narrow(float x, f16& y) { y.bits = __half_as_ushort(__float2half(x)); }

template <class T>
SSNO_DEVICE Pack<T> load16(const T* p) {
    const uint4 raw = *reinterpret_cast<const uint4*>(p);
    Pack<T> x;
    memcpy(&x, &raw, 16);
    return x;
}
template <class T>
SSNO_DEVICE void store16(T* p, const Pack<T>& x) {
    uint4 raw;
    memcpy(&raw, &x, 16);
    *reinterpret_cast<uint4*>(p) = raw;
}

extern __shared__ __align__(16) unsigned char shared_memory[];

// A place in shared memory, by its number: of a pointer that is chosen at run time the compiler
// would not know that it points there.
template <class T>
class Shared {
  public:
    SSNO_DEVICE explicit Shared(int offset) : offset_(offset) {}
    SSNO_DEVICE Shared operator+(int elements) const {
        return Shared(offset_ + elements * static_cast<int>(sizeof(T)));
    }
    SSNO_DEVICE T load(int i) const { return *at(i); }
    SSNO_DEVICE void store(int i, T x) const { *at(i) = x; }
    SSNO_DEVICE Pack<T> load16(int i) const { return cuda::load16(at(i)); }
    SSNO_DEVICE void store16(int i, const Pack<T>& x) const { cuda::store16(at(i), x); }
    SSNO_DEVICE T* at(int i) const {
        return reinterpret_cast<T*>(shared_memory + offset_ + i * static_cast<int>(sizeof(T)));
    }

  private:
    int offset_;
};

template <class T>
SSNO_DEVICE Shared<T> shared(int offset) {
    return Shared<T>(offset);
}

template <class T>
SSNO_DEVICE void copy_async16(Shared<T> to, int i, const T* from) {
    const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to.at(i)));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
}
SSNO_DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most N of the groups committed by this thread are under way.
template <int N>
SSNO_DEVICE void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

inline void check(cudaError_t error) {
    if (error != cudaSuccess)
        throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

inline int64_t attribute(cudaDeviceAttr which) {
    int device = 0, value = 0;
    check(cudaGetDevice(&device));
    check(cudaDeviceGetAttribute(&value, which, device));
    return value;
}
inline int64_t multiprocessors() { return attribute(cudaDevAttrMultiProcessorCount); }
inline int64_t shared_limit() { return attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }

template <class P>
struct Same {
    using type = P;
};

// The kernel's parameters come last, each of the type that the kernel declares.
template <class... P>
void launch(void (*kernel)(P...), Grid grid, int threads, int64_t shared_bytes, void* stream,
            const typename Same<P>::type&... parameters) {
    const void* function = reinterpret_cast<const void*>(kernel);
    if (grid.x >= int64_t(1) << 31 || grid.y >= 1 << 16 || grid.z >= 1 << 16)
        throw std::runtime_error("CUDA: a grid of more blocks than a device takes");
    if (shared_bytes > (48 << 10))
        check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(shared_bytes)));
    void* pointers[] = {const_cast<void*>(static_cast<const void*>(&parameters))...};
    const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                      static_cast<unsigned>(grid.z));
    check(cudaLaunchKernel(function, blocks, dim3(threads), pointers,
                           static_cast<size_t>(shared_bytes), static_cast<cudaStream_t>(stream)));
}

}  // namespace ssno::cuda
