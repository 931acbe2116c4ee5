// Adam and AdamW: compare with Adam._move in adam.py. p, m and v are a parameter and the averages of its gradient and its square.
// b1_left = 1 - b1 and the like are computed on the host in 64 bits: 1 - 0.999 in 32 bits is 0.001 only to five digits.

// `inside` is weight decay within the gradient (Adam), `shrink` = 1 - lr * decay beside it (AdamW); rate = lr / (1 - b1**t),
// size_left = sqrt(1 - b2**t) for step t.
extern "C" __global__ void adam(float* p, float* m, float* v, const float* g, long long size, float rate, float b1, float b1_left,
                                float b2, float b2_left, float size_left, float eps, float inside, float shrink) {
    FOR_EACH(i, size) {
        float parameter = p[i] * shrink;
        float slope = g[i] + inside * parameter;
        m[i] = b1 * m[i] + b1_left * slope;
        v[i] = b2 * v[i] + b2_left * slope * slope;
        p[i] = parameter - rate * m[i] / (sqrtf(v[i]) / size_left + eps);
    }
}
