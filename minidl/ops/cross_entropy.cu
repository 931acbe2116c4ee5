// The loss of classification, from log-probabilities (N, C, inner), which log_softmax in softmax.cu makes, and labels (N, inner):
// compare with CrossEntropy.naive in cross_entropy.py. Nothing is read back to the host, so a label that is no class cannot raise
// an error: it makes the loss NaN.

__device__ float not_a_number() { return __int_as_float(0x7fffffff); }

// loss[n] = sum of -log_probabilities at the labels of image n that count, count[n] = how many do. A block per image.
extern "C" __global__ void image_losses(const float* log_probabilities, const long long* labels, double* loss, double* count,
                                        long long N, long long C, long long inner, bool ignores, long long ignore_index) {
    extern __shared__ double shared[];
    FOR_EACH_ROW(n, N) {
        double total = 0, counted = 0;
        FOR_EACH_IN_ROW(j, inner) {
            long long label = labels[n * inner + j];
            if (ignores && label == ignore_index) continue;
            bool is_class = 0 <= label && label < C;
            total -= is_class ? log_probabilities[(n * C + label) * inner + j] : not_a_number();
            counted += 1;
        }
        total = block_sum(total, shared);
        counted = block_sum(counted, shared);
        if (threadIdx.x == 0) {
            loss[n] = total;
            count[n] = counted;
        }
    }
}

// dlogits = (softmax - one_hot) * dy / count where the label counts, else 0; dy and count are single numbers on the GPU.
extern "C" __global__ void cross_entropy_gradient(const float* log_probabilities, const long long* labels, const float* dy,
                                                  const double* count, float* dlogits, long long size, long long C,
                                                  long long inner, bool ignores, long long ignore_index) {
    FOR_EACH(i, size) {
        long long c = i / inner % C;
        long long label = labels[i / (inner * C) * inner + i % inner];
        float gradient = expf(log_probabilities[i]) - (c == label);
        if (ignores && label == ignore_index) gradient = 0;
        else if (label < 0 || label >= C) gradient = not_a_number();
        dlogits[i] = (float)(gradient * (*dy / *count));
    }
}
