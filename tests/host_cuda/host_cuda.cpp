// SPDX-License-Identifier: MIT
// The machine behind host_cuda.h: it runs the threads of a block in turn and knows who waits where.
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "fiber.h"
#include "shadow.h"
#include "ssno/cuda.h"

#if defined(__x86_64__)
asm(R"(
.text
.globl ssno_host_cuda_switch
.hidden ssno_host_cuda_switch
.type ssno_host_cuda_switch, @function
ssno_host_cuda_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size ssno_host_cuda_switch, .-ssno_host_cuda_switch
)");
#endif

namespace ssno::cuda::host {

Position here;

namespace {

enum class State { ready, at_block, at_warp, ended };

struct Copy {
    int64_t to;
    const void* from;
    Where where;
};

struct Thread {
    std::unique_ptr<Fiber> fiber;
    State state = State::ready;
    Where where;
    std::vector<Copy> copies;       // under way, the oldest first
    std::vector<size_t> committed;  // how many of them each group ends with
};

struct Warp {
    int waiting = 0, turn = 0;
    uint64_t slots[2][WARP];  // one turn's are read while the next turn's are written
    Fragment fragments[2][WARP];
};

std::mutex one_launch;
const std::function<void()>* kernel = nullptr;
std::vector<Thread> pool;
std::vector<Warp> warps;
Shadow shadow;
std::string failure;
int threads = 0;

Thread& current() { return pool[here.thread]; }

void pause(State state, Where where) {
    Thread& thread = current();
    thread.state = state;
    thread.where = where;
    thread.fiber->leave();
}

// A thread that has failed never runs again.
[[noreturn]] void fail(const std::string& message) {
    failure = message;
    for (;;) current().fiber->leave();
}

void live() {
    current().fiber->begun();
    for (;;) {
        (*kernel)();
        Thread& thread = current();
        if (!thread.copies.empty())
            fail("thread " + std::to_string(here.thread) + " ended before copy_wait");
        pause(State::ended, Where::current());
    }
}

std::string describe(int index) {
    const Thread& thread = pool[index];
    const std::string name = "thread " + std::to_string(index);
    if (thread.state == State::ended) return name + " has ended";
    const char* what = thread.state == State::at_block ? " waits at sync_block, " : " waits at ";
    return name + what + at(thread.where);
}

bool same(Where a, Where b) { return a.line() == b.line() && a.column() == b.column(); }

[[noreturn]] void give_up(std::string message) {
    pool.clear();  // with the stacks that were left in the middle of something
    failure.clear();
    throw std::runtime_error("host_cuda: " + std::move(message));
}

void run_ready() {
    for (here.thread = 0; here.thread < threads; ++here.thread)
        if (current().state == State::ready) {
            current().fiber->enter();
            if (!failure.empty()) give_up(failure);
        }
}

// No thread can run: all must wait at the same barrier.
void release_block() {
    for (int i = 1; i < threads; ++i)
        if (pool[i].state != pool[0].state || !same(pool[i].where, pool[0].where))
            give_up("a barrier that not all threads reach: " + describe(0) + ", " + describe(i));
    for (int i = 0; i < threads; ++i) pool[i].state = State::ready;
    shadow.barrier();
}

bool any(State state) {
    for (int i = 0; i < threads; ++i)
        if (pool[i].state == state) return true;
    return false;
}

void run_block() {
    shadow.forget();
    for (int i = 0; i < threads; ++i) pool[i].state = State::ready;
    for (Warp& warp : warps) warp = Warp();
    for (;;) {
        while (any(State::ready)) run_ready();
        if (!any(State::at_block) && !any(State::at_warp)) return;
        release_block();
    }
}

}  // namespace

void run(Grid grid, int block, int64_t shared_bytes, const std::function<void()>& body) {
    std::lock_guard<std::mutex> lock(one_launch);
    if (block < WARP || block > 1024 || block % WARP != 0)
        throw std::runtime_error("host_cuda: a block of " + std::to_string(block) + " threads");
    if (shared_bytes > shared_limit())
        throw std::runtime_error("host_cuda: a block with " + std::to_string(shared_bytes) +
                                 " bytes of shared memory");
    if (grid.x < 1 || grid.x >= int64_t(1) << 31 || grid.y < 1 || grid.y >= 1 << 16 || grid.z < 1 ||
        grid.z >= 1 << 16)
        throw std::runtime_error("host_cuda: a grid of " + std::to_string(grid.x) + " x " +
                                 std::to_string(grid.y) + " x " + std::to_string(grid.z));
    kernel = &body;
    threads = block;
    while (pool.size() < static_cast<size_t>(block)) {
        pool.emplace_back();
        pool.back().fiber = std::make_unique<Fiber>(live);
    }
    warps.resize(block / WARP);
    shadow.resize(shared_bytes);
    for (int64_t z = 0; z < grid.z; ++z)
        for (int64_t y = 0; y < grid.y; ++y)
            for (int64_t x = 0; x < grid.x; ++x) {
                here = {0, static_cast<int>(y), static_cast<int>(z), x};
                run_block();
            }
}

void wait_block(Where where) { pause(State::at_block, where); }

namespace {

// Until all lanes of the warp have come here. A shuffle does not order what they do to memory.
void meet(Where where, bool orders_memory) {
    const int first = here.thread / WARP * WARP;
    Warp& warp = warps[here.thread / WARP];
    if (warp.waiting > 0)
        for (int i = first; i < first + WARP; ++i)
            if (pool[i].state == State::at_warp && !same(pool[i].where, where))
                fail("a warp that diverges: " + describe(i) + ", thread " +
                     std::to_string(here.thread) + " comes to " + at(where));
    if (++warp.waiting < WARP) return pause(State::at_warp, where);
    warp.waiting = 0;
    warp.turn ^= 1;
    if (orders_memory) shadow.warp_barrier(here.thread / WARP);
    for (int i = first; i < first + WARP; ++i)
        if (i != here.thread) pool[i].state = State::ready;
}

}  // namespace

void wait_warp(Where where) { meet(where, true); }

uint64_t exchange(uint64_t x, int from, Where where) {
    Warp& warp = warps[here.thread / WARP];
    uint64_t* slots = warp.slots[warp.turn];
    slots[here.thread % WARP] = x;
    meet(where, false);
    return slots[from];
}

const Fragment* exchange(const Fragment& fragment, Where where) {
    Warp& warp = warps[here.thread / WARP];
    Fragment* fragments = warp.fragments[warp.turn];
    fragments[here.thread % WARP] = fragment;
    meet(where, false);
    return fragments;
}

unsigned char* read(int64_t offset, int bytes, Where where) {
    if (!shadow.read(offset, bytes, here.thread, where)) fail(shadow.error);
    return shadow.memory(offset);
}

unsigned char* write(int64_t offset, int bytes, Where where) {
    if (!shadow.write(offset, bytes, here.thread, where)) fail(shadow.error);
    return shadow.memory(offset);
}

void copy_later(int64_t offset, const void* from, Where where) {
    if (reinterpret_cast<uintptr_t>(from) % 16 != 0) fail("copy_async16 from between 16 bytes");
    current().copies.push_back({offset, from, where});
}

void commit() { current().committed.push_back(current().copies.size()); }

void finish_copies(int groups_left) {
    Thread& thread = current();
    if (thread.committed.size() <= static_cast<size_t>(groups_left)) return;
    const size_t groups = thread.committed.size() - groups_left;
    const size_t count = thread.committed[groups - 1];
    for (size_t i = 0; i < count; ++i) {
        const Copy& copy = thread.copies[i];
        std::memcpy(write(copy.to, 16, copy.where), copy.from, 16);
    }
    thread.copies.erase(thread.copies.begin(), thread.copies.begin() + count);
    thread.committed.erase(thread.committed.begin(), thread.committed.begin() + groups);
    for (size_t& end : thread.committed) end -= count;
}

}  // namespace ssno::cuda::host
