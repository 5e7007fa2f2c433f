// SPDX-License-Identifier: MIT
// A call of the CUDA kernels for one kind of tiles: its plan, its memory, its launches.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "damped_conv/apply_cuda.h"
#include "damped_conv/sums_cuda.h"

namespace ssno::damped_conv {

// As few axes as the strides of all tensors allow, the closest in memory last: those of size 1 go,
// and two that lie in memory as one become one.
class MergedAxes {
  public:
    explicit MergedAxes(Problem& p) : p_(p) {
        int kept = 0;
        for (int i = 0; i < p.axes; ++i)
            if (p.size[i] != 1) move(i, kept++);
        for (int i = 1; i < kept; ++i)
            for (int j = i; j > 0 && distance(j - 1) < distance(j); --j) exchange(j - 1, j);
        p.axes = 0;
        for (int i = 0; i < kept; ++i) {
            const int64_t outer = p.axes > 0 && joined(p.axes - 1, i) ? p.size[--p.axes] : 1;
            move(i, p.axes);
            p.size[p.axes++] *= outer;
        }
        if (p.axes == 0) p.size[p.axes++] = 1;
    }

  private:
    int64_t distance(int axis) const { return std::abs(p_.u.row[axis]); }
    void move(int from, int to) {
        p_.size[to] = p_.size[from];
        for (Array* a : arrays_) a->row[to] = a->row[from];
    }
    void exchange(int i, int j) {
        std::swap(p_.size[i], p_.size[j]);
        for (Array* a : arrays_) std::swap(a->row[i], a->row[j]);
    }
    bool joined(int slow, int fast) const {
        return std::all_of(std::begin(arrays_), std::end(arrays_), [&](const Array* a) {
            return a->p == nullptr || a->row[slow] == a->row[fast] * p_.size[fast];
        });
    }

    Problem& p_;
    Array* const arrays_[8] = {&p_.u,     &p_.out, &p_.initial_state, &p_.final_state,
                               &p_.v_out, &p_.v_u, &p_.v_final_state, &p_.v_initial_state};
};

template <class K>
class Call {
    using T = typename K::T;

  public:
    Call(const Problem& problem, bool backward, const Allocate& allocate, void* stream)
        : p_(problem), allocate_(allocate), stream_(stream) {
        MergedAxes{p_};
        const bool outer = p_.periodic || p_.initial_state.p || p_.final_state.p ||
                           p_.v_initial_state.p || p_.v_final_state.p;
        plan(outer);
        make_tables(backward);
    }

    void forward() { apply(p_.u, p_.out, p_.initial_state, p_.final_state, false); }

    void backward() {
        const bool parameters = p_.v_rate || p_.v_coeff || p_.v_skip;
        const bool states = parameters && task_.segments > 1 && task_.blocks > 0;
        StateArray v_enter = of_states(p_.v_final_state, true), enter = of_states(p_.initial_state);
        if (p_.v_u.p || p_.v_initial_state.p || states)
            v_enter = apply(p_.v_out, p_.v_u, p_.v_final_state, p_.v_initial_state, true);
        if (!parameters) return;
        if (states) enter = apply(p_.u, Array(), p_.initial_state, Array(), false);
        differentiate(enter, v_enter);
    }

  private:
    void plan(bool outer) {
        Task& t = task_;
        t.dtype = p_.dtype;
        t.sweeps = p_.sweeps;
        t.forward = p_.forward;
        t.backward = p_.backward;
        t.channels = p_.channels;
        t.rows = p_.rows;
        t.length = p_.length;
        t.modes = p_.modes;
        t.axes = p_.axes;
        std::copy(std::begin(p_.size), std::end(p_.size), std::begin(t.size));
        const int64_t chunks = ceil_div(p_.length, K::STEPS);
        t.segments = ceil_div(chunks, K::COLUMNS);
        t.lines = t.segments > 1 ? 1 : static_cast<int>(K::COLUMNS / chunks);
        t.groups = ceil_div(p_.rows, t.lines);
        t.periodic = p_.periodic && t.segments == 1;
        t.shift = outer && p_.length % K::STEPS != 0;
        t.stop = static_cast<int>(ceil_div(std::min<int64_t>(p_.length, K::STEPS), 8)) * 8;
        t.bits = bits_of(t.shift ? K::STEPS : t.stop);
        t.all_blocks = ceil_div(p_.modes, MODES);
        t.blocks = outer || chunks > 1 ? t.all_blocks : 0;
        const int64_t step = std::abs(p_.u.step);
        const int64_t row = p_.rows == 1 ? step : std::abs(p_.u.row[p_.axes - 1]);
        t.along_time = step <= row;
        t.channels_first = std::abs(p_.u.channel) < std::min(step, row);
    }

    static int bits_of(int steps) {
        int bits = 4;
        while ((1 << bits) < steps) ++bits;
        return bits;
    }

    void* room(int64_t bytes) const { return bytes > 0 ? allocate_(bytes) : nullptr; }

    void make_tables(bool backward) {
        const int64_t blocks = task_.sweeps * task_.channels * task_.blocks;
        const int64_t size = blocks * NUMBERS * K::STEPS * int64_t(sizeof(T));
        Tables& table = task_.table;
        table.in_power = room(size);
        table.out_gain = room(size);
        table.in_gain = room(backward ? size : 0);
        table.out_power = room(backward ? size : 0);
        table.decays = static_cast<double*>(room(blocks * MODES * DECAYS * 8));
        table.lags = room(task_.channels * 2 * K::STEPS * int64_t(sizeof(T)));
        cuda::launch(tables_kernel<K>, grid_of(task_.channels), MODES * PARTS, 0, stream_, task_,
                     TableTask{p_.rate, p_.coeff, p_.skip, p_.skip_stride});
    }

    static StateArray of_states(const Array& a, bool conjugate = false) {
        StateArray s;
        static_cast<Array&>(s) = a;
        s.conjugate = conjugate;
        return s;
    }

    // New states (segment, S, row, channel, mode, 2)
    StateArray of_segments() const {
        const Task& t = task_;
        StateArray s;
        s.part = 1;
        s.step = 2;
        s.channel = 2 * t.modes;
        int64_t stride = s.channel * t.channels;
        for (int i = t.axes - 1; i >= 0; --i) {
            s.row[i] = stride;
            stride *= t.size[i];
        }
        s.sweep = stride;
        s.segment = stride * t.sweeps;
        s.p = room(s.segment * t.segments * int64_t(sizeof(T)));
        return s;
    }

    // The convolution of x, or the transposed one, if out or the state after it is wanted; returns
    // the states before lines or, where there are segments, before those.
    StateArray apply(const Array& x, const Array& out, const Array& before, const Array& after,
                     bool transposed) {
        StateArray enter = of_states(before, transposed), leave = of_states(after, transposed);
        if (task_.segments > 1 && task_.blocks > 0) {
            const StateArray ends = of_segments();
            launch({x, Array(), StateArray(), ends, transposed});
            carry(ends.p, enter, leave, transposed);
            enter = ends;
            leave = StateArray();
        }
        if (out.p || leave.p) launch({x, out, enter, leave, transposed});
        return enter;
    }
    void launch(const Apply& a) {
        cuda::launch(apply_kernel<K>, grid_of(task_.tiles() * task_.channels), THREADS,
                     ApplyPlaces<K>::BYTES, stream_, task_, a);
    }
    void carry(void* ends, const StateArray& enter, const StateArray& leave, bool transposed) {
        const double span = K::STEPS * K::COLUMNS;
        const double rest = static_cast<double>(task_.length) - span * (task_.segments - 1);
        const int64_t states = task_.sweeps * task_.rows * task_.channels * task_.modes;
        cuda::launch(carry_kernel<K>, grid_of(ceil_div(states, THREADS)), THREADS, 0, stream_,
                     task_,
                     Carry{ends, enter, leave, p_.rate, transposed, p_.periodic, span, rest});
    }

    void differentiate(const StateArray& enter, const StateArray& v_enter) {
        const int64_t tiles = task_.tiles() * task_.channels, element = sizeof(T);
        Sums sums{p_.u, p_.v_out, enter, v_enter};
        sums.lags = room(tiles * 2 * K::STEPS * element);
        sums.states = room(tiles * task_.sweeps * task_.blocks * SUMS * element);
        Task whole = task_;  // chunks, whose products run over all pairs of samples
        whole.bits = bits_of(K::STEPS);
        cuda::launch(sums_kernel<K>, grid_of(tiles), THREADS, SumsPlaces<K>::BYTES, stream_, whole,
                     sums);
        const int64_t bytes = (LANES * PLANES + K::STEPS + SUMS) * 8;
        cuda::launch(
            reduce_kernel<K>, grid_of(task_.channels * task_.sweeps * task_.all_blocks),
            LANES * PLANES, bytes, stream_, task_,
            Reduction{sums.lags, sums.states, p_.coeff, p_.rate, p_.v_rate, p_.v_coeff, p_.v_skip});
    }

    Problem p_;
    const Allocate& allocate_;
    void* stream_;
    Task task_;
};

template <class K>
void run(const Problem& p, bool backward, const Allocate& allocate, void* stream) {
    Call<K> call(p, backward, allocate, stream);
    if (backward)
        call.backward();
    else
        call.forward();
}

}  // namespace ssno::damped_conv
