// SPDX-License-Identifier: MIT
// Rows of a field between memory of any layout and dtype and arrays in cache, in which an element
// is a number where lanes are positions and a vector where lanes are channels.
#pragma once

#include "alias_free_activation/params.h"
#include "ssno/dtype.h"

namespace ssno::SSNO_ISA::alias_free {

using namespace ssno::alias_free_activation;

// to[i] = weight * p[i] + plus, or added to what is there
template <class T, class S>
void take_positions(const S* p, int64_t stride, int64_t count, T weight, T plus, bool add, T* to) {
    constexpr int W = Lanes<T>::W;
    int64_t i = 0;
    if (stride == 1)
        for (; i + W <= count; i += W) {
            const Vec<T> before = add ? load<T>(to + i) : splat<T>(plus);
            store<T>(to + i, load_as<T, S>(p + i) * weight + before);
        }
    for (; i < count; ++i) to[i] = weight * T(widen(p[i * stride])) + (add ? to[i] : plus);
}

template <class T, class S>
void give_positions(const T* from, int64_t count, S* p, int64_t stride) {
    constexpr int W = Lanes<T>::W;
    int64_t i = 0;
    if (stride == 1)
        for (; i + W <= count; i += W) store_as<T, S>(p + i, load<T>(from + i));
    for (; i < count; ++i) narrow(from[i], p[i * stride]);
}

// The channels of one position, the first `lanes` of which exist and lie `apart` elements apart.
template <class T, class S>
SSNO_INLINE Vec<T> take_channels(const S* p, int64_t apart, int lanes) {
    if (apart == 1 && lanes == Lanes<T>::W) return load_as<T, S>(p);
    Vec<T> v{};
    for (int i = 0; i < lanes; ++i) v[i] = T(widen(p[i * apart]));
    return v;
}
template <class T, class S>
SSNO_INLINE void give_channels(Vec<T> v, S* p, int64_t apart, int lanes) {
    if (apart == 1 && lanes == Lanes<T>::W) return store_as<T, S>(p, v);
    for (int i = 0; i < lanes; ++i) narrow(v[i], p[i * apart]);
}

// Elements begin, begin + 1, ... of a row to its phases: to[u % per][u / per]
template <int Per, class T>
SSNO_INLINE void split(const T* from, int64_t begin, int64_t count, int per, T* to, int64_t apart) {
    if constexpr (Per > 0) per = Per;
    for (int64_t first = 0; first < per && first < count; ++first) {
        const int64_t u = begin + first, steps = (count - first + per - 1) / per;
        T* phase = to + u % per * apart + u / per;
        for (int64_t i = 0; i < steps; ++i) phase[i] = from[first + i * per];
    }
}
template <class T>
void split_phases(const T* from, int64_t begin, int64_t count, int per, T* to, int64_t apart) {
    if (per == 2)
        split<2>(from, begin, count, per, to, apart);
    else
        split<0>(from, begin, count, per, to, apart);
}

// The reverse, from phase 0 on
template <int Per, class T>
SSNO_INLINE void join(const T* from, int64_t apart, int per, int64_t count, T* to) {
    if constexpr (Per > 0) per = Per;
    for (int64_t r = 0; r < per; ++r)
        for (int64_t i = 0; r + i * per < count; ++i) to[r + i * per] = from[r * apart + i];
}
template <class T>
void join_phases(const T* from, int64_t apart, int per, int64_t count, T* to) {
    if (per == 2)
        join<2>(from, apart, per, count, to);
    else
        join<0>(from, apart, per, count, to);
}

}  // namespace ssno::SSNO_ISA::alias_free
