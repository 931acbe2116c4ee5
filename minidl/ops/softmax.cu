// Softmax and its logarithm, a block of threads per row: compare with Softmax.naive and LogSoftmax.naive in softmax.py.
//
// x is seen as (outer, C, inner): the classes lie `inner` elements apart, and there are rows = outer * inner rows of them.

// Where row r starts in an array (outer, C, inner).
__device__ long long row_start(long long r, long long C, long long inner) { return r / inner * C * inner + r % inner; }

// The sum over c of e**(x[c] - largest), for all threads of the block; the largest x is taken out so that no e**x overflows.
__device__ double sum_of_exponentials(const float* x, long long C, long long inner, float* largest, double* shared) {
    float m = x[0];
    FOR_EACH_IN_ROW(c, C) m = fmaxf(m, x[c * inner]);
    *largest = (float)block_max(m, shared);
    double total = 0;
    FOR_EACH_IN_ROW(c, C) total += expf(x[c * inner] - *largest);
    return block_sum(total, shared);
}

// y[c] = e**x[c] / sum over k of e**x[k]
extern "C" __global__ void softmax(const float* x, float* y, long long rows, long long C, long long inner) {
    extern __shared__ double shared[];
    FOR_EACH_ROW(r, rows) {
        long long start = row_start(r, C, inner);
        float largest;
        double total = sum_of_exponentials(x + start, C, inner, &largest, shared);
        FOR_EACH_IN_ROW(c, C) y[start + c * inner] = (float)(expf(x[start + c * inner] - largest) / total);
    }
}

// dx = y * (dy - sum of dy * y)
extern "C" __global__ void softmax_gradient(const float* dy, const float* y, float* dx, long long rows, long long C,
                                            long long inner) {
    extern __shared__ double shared[];
    FOR_EACH_ROW(r, rows) {
        long long start = row_start(r, C, inner);
        double product = 0;
        FOR_EACH_IN_ROW(c, C) product += (double)dy[start + c * inner] * y[start + c * inner];
        float total = (float)block_sum(product, shared);
        FOR_EACH_IN_ROW(c, C) dx[start + c * inner] = y[start + c * inner] * (dy[start + c * inner] - total);
    }
}

// y[c] = x[c] - log(sum over k of e**x[k])
extern "C" __global__ void log_softmax(const float* x, float* y, long long rows, long long C, long long inner) {
    extern __shared__ double shared[];
    FOR_EACH_ROW(r, rows) {
        long long start = row_start(r, C, inner);
        float largest;
        float log_total = (float)log(sum_of_exponentials(x + start, C, inner, &largest, shared));
        FOR_EACH_IN_ROW(c, C) y[start + c * inner] = x[start + c * inner] - largest - log_total;
    }
}

// dx = dy - e**y * sum of dy
extern "C" __global__ void log_softmax_gradient(const float* dy, const float* y, float* dx, long long rows, long long C,
                                                long long inner) {
    extern __shared__ double shared[];
    FOR_EACH_ROW(r, rows) {
        long long start = row_start(r, C, inner);
        double sum = 0;
        FOR_EACH_IN_ROW(c, C) sum += dy[start + c * inner];
        float total = (float)block_sum(sum, shared);
        FOR_EACH_IN_ROW(c, C) dx[start + c * inner] = dy[start + c * inner] - expf(y[start + c * inner]) * total;
    }
}
