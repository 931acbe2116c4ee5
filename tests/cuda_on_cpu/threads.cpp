// Runs recorded launches with a real thread for every CUDA thread, all blocks at once, for the sanitizers to watch.
//     program KERNELS FOLDER FIRST SECONDS
// loads the library KERNELS, runs FOLDER/FIRST.launch and all numbers after it, says on stderr which one it begins, and writes
// what the arrays hold after it to FOLDER/N.result. A launch that takes longer than SECONDS ends the program by SIGALRM.
// Memory is not freed: the program is short.
#include "machine.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <pthread.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace cuda_on_cpu {
uint3 gridDim, blockDim;
PER_THREAD uint3 blockIdx, threadIdx;
PER_THREAD void* shared_memory;
}  // namespace cuda_on_cpu
using namespace cuda_on_cpu;

namespace {
struct Block {
    uint3 index;
    void* shared;
    pthread_barrier_t barriers[2];
};
__thread Block* block;
__thread unsigned barriers_met;

// With nothing before or after it that a kernel may touch. malloc(0) gives one byte that AddressSanitizer lets be read.
char* exactly(size_t size) { return static_cast<char*>(size ? malloc(size) : static_cast<char*>(malloc(16)) + 16); }

void launch(void (*kernel)(void**), void** arguments, size_t shared_bytes) {
    const unsigned blocks = gridDim.x * gridDim.y * gridDim.z, size = blockDim.x * blockDim.y * blockDim.z;
    std::vector<std::thread> threads;
    for (unsigned b = 0; b < blocks; ++b) {
        Block* its_block = new Block{at(b, gridDim), memset(exactly(shared_bytes), 0xff, shared_bytes), {}};
        for (auto& barrier : its_block->barriers) pthread_barrier_init(&barrier, nullptr, size);
        for (unsigned t = 0; t < size; ++t)
            threads.emplace_back([=] {
                block = its_block;
                blockIdx = block->index;
                threadIdx = at(t, blockDim);
                shared_memory = block->shared;
                kernel(arguments);
            });
    }
    for (auto& thread : threads) thread.join();
}
}  // namespace

// Two barriers in turn. With one alone a fast thread comes to the next barrier before a slow one has left this one, and
// ThreadSanitizer takes that for an order between what they do in between: it then misses races.
void cuda_on_cpu::barrier(const char*, int) { pthread_barrier_wait(&block->barriers[barriers_met++ % 2]); }

int main(int, char** argv) {
    void* kernels = dlopen(argv[1], RTLD_NOW);
    if (!kernels) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    for (int number = atoi(argv[3]);; ++number) {
        const std::string path = std::string(argv[2]) + "/" + std::to_string(number);
        std::ifstream file(path + ".launch", std::ios::binary);
        if (!file) return 0;
        fprintf(stderr, "launch %d\n", number);

        std::string name;
        size_t shared_bytes, count;
        file >> name >> gridDim.x >> gridDim.y >> gridDim.z >> blockDim.x >> blockDim.y >> blockDim.z >> shared_bytes >> count;
        std::vector<size_t> sizes(count);
        for (size_t& size : sizes) file >> size;
        file >> count;
        std::vector<int> places(count);  // of each argument: the number of its array, -1 for a scalar
        for (int& place : places) file >> place;
        file.ignore();  // the end of the line; bytes from here on

        std::vector<char*> arrays;
        for (size_t size : sizes) {
            arrays.push_back(exactly(size));
            file.read(arrays.back(), size);
        }
        std::vector<void*> arguments;
        for (int place : places) {
            arguments.push_back(place < 0 ? exactly(8) : static_cast<void*>(&arrays[place]));
            if (place < 0) file.read(static_cast<char*>(arguments.back()), 8);
        }
        void* kernel = dlsym(kernels, ("cuda_on_cpu_call_" + name).c_str());
        if (!file || !kernel) {
            fprintf(stderr, "%s.launch cannot be read, or its kernel %s is missing\n", path.c_str(), name.c_str());
            return 1;
        }

        alarm(atoi(argv[4]));
        launch(reinterpret_cast<void (*)(void**)>(kernel), arguments.data(), shared_bytes);
        alarm(0);
        std::ofstream result(path + ".result", std::ios::binary);
        for (size_t i = 0; i < arrays.size(); ++i) result.write(arrays[i], sizes[i]);
    }
}
