// Batch normalisation: compare with BatchNorm.naive, forward and backward in batch_norm.py.
//
// x is (N, C, S): a channel's values are N pieces of S neighbours. mean, var and scale = 1 / sqrt(var + eps) have 64 bits: where a
// channel's mean is large against its spread, x - mean keeps its digits.

// Where the k-th of a channel's N * S values lies.
__device__ long long place(long long k, long long c, long long C, long long S) { return (k / S * C + c) * S + k % S; }

// mean and biased variance of every channel, in two passes; a block per channel.
extern "C" __global__ void statistics(const float* x, double* mean, double* var, long long N, long long C, long long S) {
    extern __shared__ double shared[];
    FOR_EACH_ROW(c, C) {
        double total = 0, squares = 0;
        FOR_EACH_IN_ROW(k, N * S) total += x[place(k, c, C, S)];
        double average = block_sum(total, shared) / (N * S);
        FOR_EACH_IN_ROW(k, N * S) {
            double distance = x[place(k, c, C, S)] - average;
            squares += distance * distance;
        }
        double variance = block_sum(squares, shared) / (N * S);
        if (threadIdx.x == 0) {
            mean[c] = average;
            var[c] = variance;
        }
    }
}

// y = w * x_hat + b,  x_hat = (x - mean) * scale
extern "C" __global__ void normalise(const float* x, const double* mean, const double* scale, const float* w, const float* b,
                                     float* y, long long size, long long C, long long S) {
    FOR_EACH(i, size) {
        long long c = i / S % C;
        float x_hat = (float)((x[i] - mean[c]) * scale[c]);
        y[i] = w[c] * x_hat + b[c];
    }
}

// dw = sum of dy * x_hat, db = sum of dy, over each channel; a block per channel.
extern "C" __global__ void gradient_sums(const float* dy, const float* x, const double* mean, const double* scale, float* dw,
                                         float* db, long long N, long long C, long long S) {
    extern __shared__ double shared[];
    FOR_EACH_ROW(c, C) {
        double total = 0, product = 0;
        FOR_EACH_IN_ROW(k, N * S) {
            long long i = place(k, c, C, S);
            total += dy[i];
            product += dy[i] * (x[i] - mean[c]);
        }
        total = block_sum(total, shared);
        product = block_sum(product, shared) * scale[c];
        if (threadIdx.x == 0) {
            db[c] = (float)total;
            dw[c] = (float)product;
        }
    }
}

// dx = w * scale * (dy - db / count - x_hat * dw / count), count = N * S: mean and variance depend on x, too.
extern "C" __global__ void gradient(const float* dy, const float* x, const double* mean, const double* scale, const float* w,
                                    const float* dw, const float* db, float* dx, long long size, long long C, long long S,
                                    long long count) {
    FOR_EACH(i, size) {
        long long c = i / S % C;
        float x_hat = (float)((x[i] - mean[c]) * scale[c]);
        dx[i] = w[c] * (float)scale[c] * (dy[i] - db[c] / count - x_hat * dw[c] / count);
    }
}

// dx = w * scale * dy: with fixed statistics, a map element by element.
extern "C" __global__ void gradient_of_fixed(const float* dy, const double* scale, const float* w, float* dx, long long size,
                                             long long C, long long S) {
    FOR_EACH(i, size) {
        long long c = i / S % C;
        dx[i] = w[c] * (float)scale[c] * dy[i];
    }
}
