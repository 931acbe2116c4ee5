// What stands in front of every .cu file of minidl. The GPU's compiler (NVRTC) knows no standard headers and no INFINITY.

// Each thread takes element i, then the one that lies as many further as there are threads: any grid does any work, once.
// Indices have 64 bits: an array of 2**31 elements is 8 GB, and GPUs have more.
#define FOR_EACH(i, n) \
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < (n); i += (long long)blockDim.x * gridDim.x)

// The same for whole blocks: a block takes row r, and its threads share the row's elements.
#define FOR_EACH_ROW(r, n) for (long long r = blockIdx.x; r < (n); r += gridDim.x)
#define FOR_EACH_IN_ROW(i, n) for (long long i = threadIdx.x; i < (n); i += blockDim.x)

// Along one axis, the windows that hold a place of the padded image: window i covers i * stride to i * stride + kernel - 1.
__device__ long long first_window(long long at, long long kernel, long long stride) {
    return at < kernel ? 0 : (at - kernel) / stride + 1;
}
__device__ long long last_window(long long at, long long stride, long long windows) { return min(at / stride, windows - 1); }

// The sum of every thread's value, for all threads of the block; `shared` holds one double per thread, whose number is a
// power of two. Halves are added to halves, in the same order on every run. Doubles, since rows are long: 100,000 floats added
// up one by one lose four digits.
__device__ double block_sum(double value, double* shared) {
    shared[threadIdx.x] = value;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    double total = shared[0];
    __syncthreads();  // nobody writes the next row's values while somebody still reads this total
    return total;
}

// The largest of every thread's value, in the same way. NaNs may be passed over: the row that the largest is of holds them still.
__device__ double block_max(double value, double* shared) {
    shared[threadIdx.x] = value;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] = max(shared[threadIdx.x], shared[threadIdx.x + half]);
        __syncthreads();
    }
    double largest = shared[0];
    __syncthreads();
    return largest;
}
