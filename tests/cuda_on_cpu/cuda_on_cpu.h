// The part of CUDA C that kernels may use, for g++. It includes no system header, so a name that NVRTC does not know
// (INFINITY, FLT_MAX, printf, int32_t) is not known here either. Warp intrinsics are left out: threads here have no warps.
#pragma once
#include "machine.h"

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
// The engine turns `extern __shared__ T name[];` into a pointer before g++ sees it; what is left is not dynamic.
#define __shared__ _Pragma("GCC error \"use dynamic shared memory, on a line in a function: extern __shared__ T name[];\"")
#define __syncthreads() cuda_on_cpu::barrier(__FILE__, __LINE__)

using size_t = decltype(sizeof 0);
using cuda_on_cpu::blockDim;
using cuda_on_cpu::blockIdx;
using cuda_on_cpu::gridDim;
using cuda_on_cpu::threadIdx;

// expf(float), exp(float) and exp(double), as CUDA has them
#define FUNCTION(name)                                                        \
    static inline float name##f(float x) { return __builtin_##name##f(x); }  \
    static inline float name(float x) { return __builtin_##name##f(x); }     \
    static inline double name(double x) { return __builtin_##name(x); }
FUNCTION(exp) FUNCTION(log) FUNCTION(sqrt) FUNCTION(fabs) FUNCTION(tanh) FUNCTION(floor) FUNCTION(ceil)
#undef FUNCTION

#define FUNCTION(name)                                                                      \
    static inline float name##f(float x, float y) { return __builtin_##name##f(x, y); }    \
    static inline float name(float x, float y) { return __builtin_##name##f(x, y); }       \
    static inline double name(double x, double y) { return __builtin_##name(x, y); }
FUNCTION(pow) FUNCTION(fmax) FUNCTION(fmin)
#undef FUNCTION

static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline float rsqrt(float x) { return 1 / sqrtf(x); }
static inline double rsqrt(double x) { return 1 / sqrt(x); }

// No template: max(int, long long) is ambiguous, as in CUDA. Of a NaN and a number, max is the number, as in CUDA.
#define MIN_MAX(T)                                                \
    static inline T min(T a, T b) { return b < a ? b : a; }      \
    static inline T max(T a, T b) { return a < b ? b : a; }
MIN_MAX(int) MIN_MAX(unsigned) MIN_MAX(long long) MIN_MAX(unsigned long long)
#undef MIN_MAX
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

#define BITS_AS(name, From, To)                \
    static inline To name(From from) {         \
        To to;                                 \
        __builtin_memcpy(&to, &from, sizeof to); \
        return to;                             \
    }
BITS_AS(__int_as_float, int, float) BITS_AS(__float_as_int, float, int)
BITS_AS(__longlong_as_double, long long, double) BITS_AS(__double_as_longlong, double, long long)
#undef BITS_AS

template <class T>
static inline T __ldg(const T* address) { return *address; }

// A real atomic, though fibers could do without: in place of it, a plain += is then a race that ThreadSanitizer reports.
#define ATOMIC_ADD(T)                                                                                              \
    static inline T atomicAdd(T* address, T value) {                                                               \
        T old, sum;                                                                                                \
        __atomic_load(address, &old, __ATOMIC_RELAXED);                                                            \
        do sum = old + value;                                                                                      \
        while (!__atomic_compare_exchange(address, &old, &sum, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));         \
        return old;                                                                                                \
    }
ATOMIC_ADD(float) ATOMIC_ADD(double) ATOMIC_ADD(int) ATOMIC_ADD(unsigned) ATOMIC_ADD(unsigned long long)
#undef ATOMIC_ADD
