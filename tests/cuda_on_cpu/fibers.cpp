// Runs a kernel one block at a time, the threads of a block as fibers: __syncthreads() lets the next one go on.
//
// A fiber takes threads from the block's queue and runs one after the other, for as long as none meets a barrier. Only a
// thread that waits keeps its fiber, and the next thread begins on another one. So a kernel without barriers is a plain
// loop on one fiber. Fibers live as long as the process; they switch by _longjmp, which makes no system call.
#include "machine.h"

#include <algorithm>
#include <csetjmp>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

namespace cuda_on_cpu {
uint3 gridDim, blockDim, blockIdx, threadIdx;
void* shared_memory;
}  // namespace cuda_on_cpu
using namespace cuda_on_cpu;

namespace {
const size_t STACK = 64 * 1024, PAGE = 4096;
const size_t SHARED = 48 * 1024, BEYOND = 4 * 1024;  // bytes: what a block may have, and what is watched after it
const uint16_t CANARY = 0x7ff8;                      // repeated, it is a NaN as float and as double: to read it shows as well

struct Fiber {
    jmp_buf place;    // where it goes on
    char* stack;
    unsigned number;  // how many fibers were there before it
    uint3 thread;     // the threadIdx that it runs
};

alignas(16) uint16_t shared[(SHARED + BEYOND) / 2];
Fiber scheduler;  // the stack that launch() was called on; it decides what a block does next
Fiber* current = &scheduler;
std::vector<Fiber*> idle, waiting;  // waiting: at a barrier, in the order of arrival
std::vector<Fiber*> round;          // those that go on from a barrier, and how many of them have
size_t resumed;
std::vector<uint3> queue;  // the threads of the block, in the order in which they begin, and how many have
size_t begun, finished;
void (*kernel)(void**);
void** arguments;
const char* barrier_file;
int barrier_line, other_line;  // where this round's first thread waits; where one waits that is elsewhere, or 0

Fiber* next() {
    if (resumed < round.size()) return round[resumed++];
    if (begun == queue.size() || idle.empty()) return &scheduler;
    Fiber* fiber = idle.back();
    idle.pop_back();
    return fiber;
}

// Lets the others go on, until one of them comes back here. Straight to the next fiber: half the jumps of a way through the
// scheduler, and jumps are what a barrier costs.
void leave() {
    if (_setjmp(current->place) == 0) {
        current = next();
        threadIdx = current->thread;
        _longjmp(current->place, 1);
    }
}

void live() {
    for (;;) {
        idle.push_back(current);
        leave();
        while (begun < queue.size()) {
            threadIdx = current->thread = queue[begun++];
            kernel(arguments);
            ++finished;
        }
    }
}

// Sets a fiber to the begin of its life, whatever it was in.
void start(Fiber* fiber) {
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber->stack;
    context.uc_stack.ss_size = STACK - fiber->number % 16 * 256;  // not all stacks in the same lines of the cache: 2x for 1024
    makecontext(&context, live, 0);
    current = fiber;
    if (_setjmp(scheduler.place) == 0) setcontext(&context);
}

void make_fiber() {
    char* memory = static_cast<char*>(mmap(nullptr, PAGE + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(memory, PAGE, PROT_NONE);  // a stack that overflows stops the process instead of writing to its neighbour
    static unsigned made = 0;
    start(new Fiber{{}, memory + PAGE, made++, {}});
}

// Runs the block at blockIdx. False: its threads do not all meet at the same barrier.
bool run_block(bool shuffled, std::minstd_rand& random) {
    begun = finished = resumed = 0;
    round.clear();
    if (shuffled) std::shuffle(queue.begin(), queue.end(), random);
    while (begun < queue.size()) {
        if (idle.empty()) make_fiber();
        leave();
    }
    while (!waiting.empty()) {
        if (finished || other_line) return false;
        round.swap(waiting);
        waiting.clear();
        resumed = 0;
        if (shuffled) std::shuffle(round.begin(), round.end(), random);
        leave();
    }
    return true;
}

std::string describe_divergence() {
    std::string text = "divergent barrier in block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
                       std::to_string(blockIdx.z) + "): of " + std::to_string(queue.size()) + " threads " +
                       std::to_string(waiting.size()) + " wait, at " + barrier_file + ":" + std::to_string(barrier_line);
    if (other_line) text += " and at line " + std::to_string(other_line);
    if (finished) text += ", and " + std::to_string(finished) + " have finished";
    return text + ". Every thread of a block must come to every __syncthreads()";
}
}  // namespace

void cuda_on_cpu::barrier(const char* file, int line) {
    if (waiting.empty()) {
        barrier_file = file;
        barrier_line = line;
        other_line = 0;
    } else if (line != barrier_line) {
        other_line = line;
    }
    waiting.push_back(current);
    leave();
}

// Schedule 0: threads and blocks in their order; 1: backward; any other: shuffled, with that seed, threads at every barrier.
// Gives what is wrong with the launch, or null.
extern "C" const char* cuda_on_cpu_launch(void (*call)(void**), void** args, const unsigned* grid, const unsigned* block,
                                          unsigned shared_bytes, unsigned schedule) {
    static std::string problem;
    kernel = call;
    arguments = args;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    shared_memory = shared;
    std::minstd_rand random(schedule);
    const bool backward = schedule == 1, shuffled = schedule > 1;

    queue.resize(blockDim.x * blockDim.y * blockDim.z);
    for (size_t i = 0; i < queue.size(); ++i) queue[i] = at(backward ? queue.size() - 1 - i : i, blockDim);
    const unsigned long long blocks = (unsigned long long)gridDim.x * gridDim.y * gridDim.z;
    std::vector<unsigned> permutation(shuffled ? blocks : 0);
    for (size_t i = 0; i < permutation.size(); ++i) permutation[i] = i;
    std::shuffle(permutation.begin(), permutation.end(), random);

    uint16_t *canary = shared + (shared_bytes + 1) / 2, *canary_end = canary + BEYOND / 2 - 1;
    std::fill(canary, canary_end, CANARY);
    for (unsigned long long i = 0; i < blocks; ++i) {
        blockIdx = at(backward ? blocks - 1 - i : shuffled ? permutation[i] : i, gridDim);
        memset(shared, 0xff, shared_bytes);  // NaN: what a block reads before it has written it shows
        if (!run_block(shuffled, random)) {
            problem = describe_divergence();
            std::vector<Fiber*> stuck;
            stuck.swap(waiting);
            for (Fiber* fiber : stuck) start(fiber);  // it forgets the thread that it was in
            return problem.c_str();
        }
    }
    if (std::any_of(canary, canary_end, [](uint16_t x) { return x != CANARY; })) {
        problem = "wrote beyond its " + std::to_string(shared_bytes) + " bytes of shared memory";
        return problem.c_str();
    }
    return nullptr;
}
