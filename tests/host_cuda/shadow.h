// SPDX-License-Identifier: MIT
// The shared memory of a block, and who touched which part of it since the last barrier.
#pragma once

#include <cstdint>
#include <source_location>
#include <string>
#include <vector>

namespace ssno::cuda::host {

inline std::string at(std::source_location where) {
    const std::string file = where.file_name();
    return file.substr(file.rfind('/') + 1) + ":" + std::to_string(where.line());
}

class Shadow {
  public:
    std::string error;  // of the last access that was refused

    void resize(int64_t bytes) {
        bytes_ = bytes;
        if (memory_.size() * sizeof(Line) < static_cast<size_t>(bytes)) {
            memory_.resize((bytes + sizeof(Line) - 1) / sizeof(Line));
            units_.assign(memory_.size() * (sizeof(Line) / UNIT), Unit());
        }
    }
    unsigned char* memory(int64_t offset) {
        return reinterpret_cast<unsigned char*>(memory_.data()) + offset;
    }

    // All threads have reached one: what was touched before no longer conflicts.
    void barrier() { ++time_; }
    // A warp has: what its own threads touched before no longer conflicts among them.
    void warp_barrier(int warp) { ++warp_time_[warp]; }
    // A new block: nothing is written.
    void forget() { begin_ = ++time_; }

    bool read(int64_t offset, int bytes, int thread, std::source_location where) {
        if (misplaced(offset, bytes, where)) return false;
        for (int64_t i = offset / UNIT; i < (offset + bytes + UNIT - 1) / UNIT; ++i) {
            Unit& u = units_[i];
            if (u.write.time < begin_)
                return refuse("byte " + std::to_string(i * UNIT) +
                              " of shared memory is read before it is written, at " + at(where));
            if (conflict(u.write, thread))
                return race(i, u.write, "written", thread, "read", where);
            if (conflict(u.read, thread))
                (u.read.thread / WARP == thread / WARP ? u.near : u.far) = u.read;
            u.read = touch(thread, where);
        }
        return true;
    }

    bool write(int64_t offset, int bytes, int thread, std::source_location where) {
        if (misplaced(offset, bytes, where)) return false;
        for (int64_t i = offset / UNIT; i < (offset + bytes + UNIT - 1) / UNIT; ++i) {
            Unit& u = units_[i];
            if (conflict(u.write, thread))
                return race(i, u.write, "written", thread, "written", where);
            for (const Touch* t : {&u.read, &u.near, &u.far})
                if (conflict(*t, thread)) return race(i, *t, "read", thread, "written", where);
            u.write = touch(thread, where);
        }
        return true;
    }

  private:
    static constexpr int UNIT = 2;  // bytes: threads may write neighbouring half precisions
    static constexpr int WARP = 32;
    struct Touch {
        uint64_t time = 0, warp_time = 0;  // numbers of barriers, which begin with 1
        int thread = -1;
        std::source_location where;
    };
    // The last write, the last read, and reads at the same time by its warp and by another one: any
    // thread that writes conflicts with one of these if it does with any.
    struct Unit {
        Touch write, read, near, far;
    };
    struct alignas(16) Line {
        unsigned char byte[16];
    };

    Touch touch(int thread, std::source_location where) const {
        return {time_, warp_time_[thread / WARP], thread, where};
    }
    bool conflict(const Touch& t, int thread) const {
        if (t.time != time_ || t.thread == thread) return false;
        return t.thread / WARP != thread / WARP || t.warp_time == warp_time_[thread / WARP];
    }
    bool refuse(const std::string& why) {
        error = why;
        return false;
    }
    bool misplaced(int64_t offset, int bytes, std::source_location where) {
        if (offset < 0 || offset + bytes > bytes_)
            return !refuse("byte " + std::to_string(offset) + " of " + std::to_string(bytes_) +
                           " of shared memory is used, at " + at(where));
        if (offset % bytes != 0)
            return !refuse("byte " + std::to_string(offset) + " of shared memory is not aligned " +
                           "to " + std::to_string(bytes) + ", at " + at(where));
        return false;
    }
    bool race(int64_t unit, const Touch& t, const char* before, int thread, const char* now,
              std::source_location where) {
        return refuse("race: byte " + std::to_string(unit * UNIT) + " of shared memory is " +
                      before + " by thread " + std::to_string(t.thread) + " at " + at(t.where) +
                      " and " + now + " by thread " + std::to_string(thread) + " at " + at(where) +
                      ", no barrier between");
    }

    int64_t bytes_ = 0;
    uint64_t time_ = 1, begin_ = 1;
    uint64_t warp_time_[1024 / WARP] = {};
    std::vector<Line> memory_;
    std::vector<Unit> units_;
};

}  // namespace ssno::cuda::host
