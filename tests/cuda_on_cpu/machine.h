// What a kernel shares with the engine that runs it. CUDA_ON_CPU_THREADS: every CUDA thread is a real one (threads.cpp);
// without it, threads are fibers of one (fibers.cpp) and the engine writes these variables before it switches.
#pragma once
#ifdef CUDA_ON_CPU_THREADS
#define PER_THREAD __thread
#else
#define PER_THREAD
#endif

struct uint3 {
    unsigned x, y, z;
};

namespace cuda_on_cpu {
extern uint3 gridDim, blockDim;
extern PER_THREAD uint3 blockIdx, threadIdx;
extern PER_THREAD void* shared_memory;  // of the thread's block

void barrier(const char* file, int line);

// x runs fastest, as on the GPU
inline uint3 at(unsigned long long i, uint3 size) {
    return {unsigned(i % size.x), unsigned(i / size.x % size.y), unsigned(i / size.x / size.y)};
}
}  // namespace cuda_on_cpu
