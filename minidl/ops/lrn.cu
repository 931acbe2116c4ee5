// Local response normalisation, element by element: compare with LRN.naive, forward and backward in lrn.py.
//
// Arrays are (N, C, S): the channels of one place lie S elements apart. The window of channel c runs from c - before to c + after.

// s = k + alpha * sum of x**2 over the window,  y = x * s**-beta
extern "C" __global__ void lrn(const float* x, float* s, float* y, long long size, long long C, long long S, long long before,
                               long long after, float k, float alpha, float beta) {
    FOR_EACH(i, size) {
        long long c = i / S % C;
        float total = 0;
        for (long long d = max(-before, -c); d <= min(after, C - 1 - c); ++d) total += x[i + d * S] * x[i + d * S];
        s[i] = k + alpha * total;
        y[i] = x[i] * powf(s[i], -beta);
    }
}

// dx[c] = dy[c] s[c]**-beta - 2 alpha beta x[c] * sum of dy x s**(-beta - 1) over the channels whose windows hold c
extern "C" __global__ void lrn_gradient(const float* dy, const float* x, const float* s, float* dx, long long size, long long C,
                                        long long S, long long before, long long after, float alpha, float beta) {
    FOR_EACH(i, size) {
        long long c = i / S % C;
        float seen = 0;
        for (long long d = max(-after, -c); d <= min(before, C - 1 - c); ++d) {  // mirrored
            long long j = i + d * S;
            seen += dy[j] * x[j] * powf(s[j], -beta - 1);
        }
        dx[i] = dy[i] * powf(s[i], -beta) - 2 * alpha * beta * x[i] * seen;
    }
}
